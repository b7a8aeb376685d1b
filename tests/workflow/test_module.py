"""The workflow as a module of another one: what `docs/cluster.md` prints is run as printed."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import CLAIMS, small_project
from project import REPOSITORY, Project

SNAKEFILE = re.search(
    r"^```python file=Snakefile\n(.*?)^```$", (REPOSITORY / "docs/cluster.md").read_text(), re.MULTILINE | re.DOTALL
)
SCALE = 'configfile: "sysdpo/workflow/scales/test.yaml"\n'
OWN_RULE = """

shell.prefix("export OWN=prefix; ")


rule own:
    output:
        "own.txt",
    shell:
        "echo $OWN $PYTHONPATH > {output}"
"""


@pytest.fixture
def other(tmp_path: Path) -> Callable[[str, Path], Project]:
    """The project of another workflow, which has a clone of this one."""

    def make(snakefile: str, clone: Path) -> Project:
        folder = tmp_path / "other"
        folder.mkdir()
        (folder / "sysdpo").symlink_to(clone)
        (folder / "Snakefile").write_text(snakefile)
        return Project(folder)

    return make


def printed() -> str:
    assert SNAKEFILE
    return SNAKEFILE[1]


def test_what_is_printed_plans_the_scale_test_and_runs_its_first_steps(other: Callable[[str, Path], Project]) -> None:
    project = other(printed(), REPOSITORY)
    planned = project.snakemake("--dry-run", "--quiet", "rules")
    options = ["--directory", str(project.folder / "alone"), "--dry-run", "--quiet", "rules"]
    scale = ["--configfile", "config.yaml", "workflow/scales/test.yaml"]
    command = [sys.executable, "-m", "snakemake", *options, *scale]
    alone = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert planned.returncode == alone.returncode == 0, planned.stderr + alone.stderr
    counted = counts(planned.stdout + planned.stderr)
    assert {name.removeprefix("sysdpo_"): count for name, count in counted.items() if name.startswith("sysdpo_")} == {
        name: count for name, count in counts(alone.stdout + alone.stderr).items() if name not in ("default", "total")
    }

    results = "alignment/build/test"
    project.run(f"{results}/runs/progressive_images/prompts.parquet", f"{results}/descriptions.json")
    made = [path for path in project.folder.glob("**/*") if path.is_file() and ".snakemake" not in path.parts]
    assert {path.relative_to(project.folder).parts[0] for path in made} == {"Snakefile", "alignment"}
    assert (project.folder / results / "runs/progressive_images/prompts.parquet").stat().st_size > 0
    assert yaml.safe_load((project.folder / results / "config.yaml").read_text())["results"] == results


def counts(shown: str) -> dict[str, int]:
    """The jobs of each rule, from the table that Snakemake prints."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", shown, re.MULTILINE)}


def test_everything_that_a_module_makes_and_nothing_else_has_its_prefix(
    other: Callable[[str, Path], Project], tmp_path: Path
) -> None:
    (tmp_path / "clone").mkdir()
    clone = small_project(tmp_path / "clone")
    clone.edit("mine.py:build", "factory")
    clone.edit(2, "trajectories", "shards")
    clone.edit(2, "evaluation", "shards")
    project = other(printed().replace(SCALE, "").replace("/build/test/", "/results/") + OWN_RULE, clone.folder)
    (project.folder / "mine.py").write_text("def build(settings): ...\n")
    (project.folder / "claims.yaml").write_text(CLAIMS)
    failed = project.snakemake("--cores", "1", "sysdpo_describe", STUB_FAILS="describe")
    assert failed.returncode == 1, "a step that fails after it has written its file"

    project.run("sysdpo_tune", "sysdpo_ablations")
    project.run("all", "own")
    made = {path.name for path in project.folder.iterdir() if not path.name.startswith((".", "_"))}
    assert made == {"Snakefile", "alignment", "claims.yaml", "mine.py", "own.txt", "sysdpo"}
    assert not (clone.folder / "results").exists()
    assert (project.folder / "own.txt").read_text().startswith("prefix")
    assert str(clone.folder) not in (project.folder / "own.txt").read_text()
    assert project.planned("all", "own") == []
