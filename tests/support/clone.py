"""The project as a user has it after cloning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def clone(folder: Path) -> Path:
    """A copy of the project's own files in `folder`, which may exist; returns it."""
    for name in ("sysdpo", "workflow", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(REPOSITORY / name, folder)
    return folder


def warm_snakemake(folder: Path, *arguments: str, numerics: str = "portable") -> str:
    """What a run of the workflow in a clone prints; it must succeed. Steps of these numerics are forked."""
    python = (sys.executable, "-m")
    done = subprocess.run(
        [*python, "sysdpo", "warm", *python, "snakemake", "--cores", "2", "--scheduler", "greedy", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "SYSDPO_NUMERICS": numerics},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr
