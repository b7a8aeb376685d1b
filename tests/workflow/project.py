"""A copy of the project whose steps are stubs: the workflow is real, its jobs take no time."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TARGETS = ("all", "default", "theory", "credit", "ablations", "candidates", "coverage", "tune", "sweep")
STUB = Path(__file__).parent / "stub" / "__main__.py"
PROFILES = REPOSITORY / "workflow" / "profiles"


@dataclass(frozen=True)
class Job:
    rule: str
    wildcards: dict[str, str]


@dataclass
class Project:
    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.folder / "config.yaml").read_text())

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    @property
    def system(self) -> str:
        return next(iter(self.config["systems"]))

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the first system."""
        return self.config["systems"][self.system]

    def edit(self, value: Any, *keys: str) -> None:
        """Set one setting of the first system, as a user would in config.yaml."""
        config = self.config
        settings = config["systems"][self.system]
        for key in keys[:-1]:
            settings = settings[key]
        settings[keys[-1]] = value
        self.config = config

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def run(self, *arguments: str) -> str:
        """What Snakemake prints; the run must succeed."""
        done = self.snakemake("--cores", "2", "--scheduler", "greedy", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def planned(self, *arguments: str) -> list[Job]:
        """The jobs that a run would do now, the targets themselves left out."""
        blocks = re.split(r"\n(?:local)?rule (?=\w+:\n)", self.run("--dry-run", *arguments))[1:]
        jobs = {}
        for block in blocks:
            found = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            pairs = [pair.split("=", 1) for pair in found[1].split(", ")] if found else []
            number = re.search(r"^    jobid: (\d+)$", block, re.MULTILINE)
            assert number, block
            jobs[number[1]] = Job(block.split(":", 1)[0], dict(pairs))
        return [job for job in jobs.values() if job.rule not in TARGETS]


def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


def changed_profile(folder: Path, name: str, train: dict[str, Any]) -> Path:
    """A copy of a profile of which a user has changed what trainings ask for."""
    settings = profile(name)
    settings["set-resources"]["train"] |= train
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def training_on_several_nodes() -> dict[str, Any]:
    """What the profile slurm-gpu says, in a comment, that such a training asks for."""
    lines = re.findall(r"^  #   (\w+: .*)$", (PROFILES / "slurm-gpu/config.yaml").read_text(), re.MULTILINE)
    return yaml.safe_load("\n".join(lines))


def make_project(folder: Path, over: dict[str, Any] | None = None) -> Project:
    """Lay the workflow, the configuration with `over` on top, and the stub library into `folder`."""
    shutil.copy(REPOSITORY / "Snakefile", folder)
    for name in ("workflow", "envs"):
        (folder / name).symlink_to(REPOSITORY / name)
    library = folder / "sysdpo"
    library.mkdir()
    for path in (REPOSITORY / "sysdpo").iterdir():
        if path.name not in (STUB.name, "__pycache__"):
            (library / path.name).symlink_to(path)
    shutil.copy(STUB, library)
    project = Project(folder)
    project.config = yaml.safe_load((REPOSITORY / "config.yaml").read_text()) | (over or {})
    return project
