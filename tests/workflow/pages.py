"""Pages of the documentation whose code is run as it is printed."""

import os
import re
import subprocess
from pathlib import Path

from project import REPOSITORY

BLOCK = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> dict[str, str]:
    """The texts of a page that name the file they belong in, by that name."""
    return dict(BLOCK.findall((REPOSITORY / page).read_text()))


def lay_workflow(root: Path) -> None:
    """The workflow, as a clone has it, beside whatever is there."""
    for name in ("Snakefile", "workflow", "envs", "sysdpo", "config.yaml"):
        (root / name).symlink_to(REPOSITORY / name)


def run(folder: Path, *command: str) -> str:
    """What a command prints, which must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
