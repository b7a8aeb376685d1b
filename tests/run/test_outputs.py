"""What a step may replace: what it could have made itself, whole or not at all; nothing of anybody else's."""

import io
import multiprocessing
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from coin_system import CONFIG
from steps import Steps


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    made = Steps(tmp_path / "run", CONFIG)
    made.prepare()
    assert made("train", method="direct") == 0
    return made


def everything(steps: Steps) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in steps.root.rglob("*") if path.is_file()}


STEPS: dict[str, dict[str, Any]] = {
    "prompts": {},
    "foundation": {"model": "mint"},
    "sample": {},
    "score": {},
    "pair": {},
    "train": {"method": "direct"},
    "evaluate": {"method": "direct"},
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("theirs", ["a folder with somebody's files", "somebody's file"])
def test_an_output_that_is_somebody_else_s(steps: Steps, capsys: pytest.CaptureFixture, step: str, theirs: str) -> None:
    thesis = steps.root / "thesis"
    if theirs == "somebody's file":
        thesis.write_text("years of work")
    else:
        thesis.mkdir()
        (thesis / "chapter-1.tex").write_text("years of work")
    before = everything(steps)
    capsys.readouterr()
    assert steps(step, **STEPS[step], output=thesis) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"sysdpo {step}: '{thesis}' ")
    assert "another name" in said
    assert everything(steps) == before


@pytest.mark.parametrize(
    ("step", "output", "read"),
    [
        ("prompts", "config.yaml", "config.yaml"),
        ("pair", "runs/coins/0/scores.parquet", "runs/coins/0/scores.parquet"),
        ("score", "runs/coins/0/trajectories.parquet", "runs/coins/0/trajectories.parquet"),
        ("train", "runs/coins/0", "runs/coins/0/trajectories.parquet"),
        ("train", "runs/coins/0/foundation", "runs/coins/0/foundation"),
        ("evaluate", ".", "runs/coins/prompts.parquet"),
    ],
)
def test_an_output_that_is_an_input(
    steps: Steps, capsys: pytest.CaptureFixture, step: str, output: str, read: str
) -> None:
    before = everything(steps)
    capsys.readouterr()
    assert steps(step, **STEPS[step], output=steps.root / output) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"sysdpo {step}: --output: '{steps.root / output}' would replace '")
    assert everything(steps) == before


def test_a_checkpoint_that_is_an_input(steps: Steps, capsys: pytest.CaptureFixture) -> None:
    before = everything(steps)
    assert steps("train", method="direct", checkpoint=steps.run / "pairs.parquet", output=steps.root / "made") == 2
    assert "--checkpoint: " in capsys.readouterr().err
    assert everything(steps) == before


@pytest.mark.parametrize("step", STEPS)
def test_a_step_runs_again_over_what_it_made(steps: Steps, step: str) -> None:
    for _ in range(2):
        assert steps(step, **STEPS[step]) == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_takes_no_more(steps: Steps, step: str) -> None:
    before = everything(steps)
    fork = multiprocessing.get_context("fork")
    said, told = fork.Pipe(duplex=False)
    child = fork.Process(target=where_nothing_fits, args=(steps, step, told))
    child.start()
    code, error = said.recv()
    child.join()
    made = steps.root / "made" / ("samples.parquet" if step == "evaluate" else "")
    assert error.splitlines()[-1] == f"sysdpo {step}: '{made}' cannot be written (File too large)"
    assert code == 2
    assert everything(steps) == before


def where_nothing_fits(steps: Steps, step: str, told: Any) -> None:
    sys.stderr = io.StringIO()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
    told.send((steps(step, **STEPS[step], output=steps.root / "made"), sys.stderr.getvalue()))
    os._exit(0)
