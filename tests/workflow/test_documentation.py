"""The commands that the README and the pages beside it give for profiles and scales."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from project import REPOSITORY, make_project

from sysdpo.run.cli import commands as steps

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def on_a_cluster() -> list[str]:
    """The README's commands for a cluster, in their order, without what is said of them."""
    section = (REPOSITORY / "README.md").read_text().split("\n## On a cluster\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    return [shlex.join(shlex.split(line, comments=True)) for line in block.splitlines()]


def commands(program: str) -> list[list[str]]:
    return [words[1:] for words in map(shlex.split, on_a_cluster()) if words[0] == program]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_profiles_and_scales_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"workflow/(?:profiles|scales)/[\w.-]*\w", text))
    copied = set(re.findall(r"cp -r \S+ (\S+)", text))
    assert [path for path in named - copied if not (REPOSITORY / path).exists()] == []


def test_the_clusters_commands_plan_the_run_in_a_fresh_copy(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (tmp_path / "workflow").unlink()  # a link, and `cp` shall write into a copy
    shutil.copytree(REPOSITORY / "workflow", tmp_path / "workflow")
    for words in commands("cp"):
        subprocess.run(["cp", *words], cwd=tmp_path, check=True)
    dry, submitting = commands("snakemake")
    assert dry == [*submitting, "--dry-run", "--quiet", "rules"]
    done = project.snakemake(*dry)
    assert done.returncode == 0, done.stderr
    for rule in ("sample_shard", "train", "evaluate_shard", "report"):
        assert re.search(rf"^{rule} +\d+$", done.stdout + done.stderr, re.MULTILINE), rule


def test_the_clusters_paths_are_those_of_the_scale_that_it_runs() -> None:
    (scale,) = {words[words.index("--configfile") + 1] for words in commands("snakemake")}
    (planned,) = commands("sysdpo")
    step, *options = planned
    assert list(map(str, steps().commands[step].make_context(step, options).params["config"])) == [scale]
    config = yaml.safe_load((REPOSITORY / scale).read_text())
    assert {words[-1] for words in commands("tar")} == {config["results"]}
    ((_, log),) = commands("tail")
    results, system, seed, method, step = re.fullmatch(r"(.*)/logs/(\w+)/(\d+)/(\w+)/(\w+)\.log", log).groups()
    assert (results, step) == (config["results"], "train")
    assert int(seed) in config["seeds"]
    assert config["systems"][system]["methods"][method]["objective"] != "none"
