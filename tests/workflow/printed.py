"""What pages of the documentation print, run as printed."""

import os
import re
import subprocess
from pathlib import Path

from project import REPOSITORY

BLOCK = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(page: str) -> dict[str, str]:
    """The blocks of a page that name a file, by that name."""
    return dict(BLOCK.findall((REPOSITORY / page).read_text()))


def lay_out(blocks: dict[str, str], root: Path) -> Path:
    """Every block in the file that it names, and the workflow beside them."""
    for name, text in blocks.items():
        (root / name).write_text(text)
    for name in ("Snakefile", "workflow", "envs", "sysdpo", "config.yaml"):
        (root / name).symlink_to(REPOSITORY / name)
    return root


def attempt(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def run(folder: Path, *command: str) -> str:
    """What a command prints; it must succeed."""
    done = attempt(folder, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
