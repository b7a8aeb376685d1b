"""The step `train`, cut short and started again: it goes on, or begins anew where something has changed."""

import copy
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from coin_system import CONFIG
from cut_short import CutShort, cut_after, rows
from steps import Steps

from sysdpo.method import training
from sysdpo.method.checkpoints import Checkpoint


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    made = Steps(tmp_path / "coins", CONFIG)
    made.prepare()
    return made


def cut_short(steps: Steps, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A training that has written five checkpoints."""
    with monkeypatch.context() as limited:
        cut_after(limited, 5)
        with pytest.raises(CutShort):
            steps("train", method="direct", output=steps.root / "made", checkpoint=path, **EACH)
    assert path.exists()
    assert not (steps.root / "made").exists()


EACH = {"checkpoint-every": 0}


def test_the_step_goes_on_and_leaves_no_checkpoint(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    path = steps.root / "kept.pt"
    assert steps("train", method="direct", output=steps.root / "whole") == 0
    cut_short(steps, monkeypatch, path)
    seen: list[int] = []
    read = Checkpoint.read
    monkeypatch.setattr(Checkpoint, "read", lambda *given: seen.append(read(*given).step) or read(*given))
    assert steps("train", method="direct", output=steps.root / "made", checkpoint=path, **EACH) == 0
    assert seen == [5]
    assert rows(steps.root / "made") == rows(steps.root / "whole")
    assert not path.exists()


def other_base_weights(steps: Steps) -> None:
    (steps.run / "foundation/mint/logit").write_text("0.25")


def other_trajectories(steps: Steps) -> None:
    path = steps.run / "trajectories.parquet"
    table = pd.read_parquet(path)
    table.assign(text=table["text"] + "!").to_parquet(path)


def other_prompts(steps: Steps) -> None:
    path = steps.runs / "prompts.parquet"
    table = pd.read_parquet(path)
    table.assign(text=table["text"] + "!").to_parquet(path)


def other_scores(steps: Steps) -> None:
    path = steps.run / "scores.parquet"
    table = pd.read_parquet(path)
    table.assign(score=table["score"] * 2).to_parquet(path)


def other_pairs(steps: Steps) -> None:
    path = steps.run / "pairs.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)


def changed(steps: Steps, **over: Any) -> None:
    config = copy.deepcopy(CONFIG)
    for section, values in over.items():
        config["systems"]["coins"][section] |= values
    steps.write_config(config)


OTHERS: dict[str, Callable[[Steps], None]] = {
    "foundation models": other_base_weights,
    "trajectories": other_trajectories,
    "prompts": other_prompts,
    "scores": other_scores,
    "pairs": other_pairs,
    "method": lambda steps: changed(steps, training={"beta": 0.7}),
    "components": lambda steps: changed(steps, components={"first": {"lora": {"r": 3}}}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_training_of_other_things_begins_anew(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, name: str
) -> None:
    path = steps.root / "kept.pt"
    cut_short(steps, monkeypatch, path)
    OTHERS[name](steps)
    assert steps("train", method="direct", output=steps.root / "whole") == 0
    capsys.readouterr()
    assert steps("train", method="direct", output=steps.root / "made", checkpoint=path) == 0
    assert f"is of another training, which differs in {name}; it is now" in capsys.readouterr().err
    assert rows(steps.root / "made") == rows(steps.root / "whole")
    assert [each.name for each in steps.root.glob("kept*")] == ["kept.pt.unusable"]


@pytest.mark.parametrize(
    "over",
    [
        {"training": {"micro_batch_size": 2}},
        {"training": {"best_of": 2}},
        {"components": {"first": {"batch_size": 3, "gradient_checkpointing": True, "sharded": True}}},
        {"trajectories": {"shards": 2}},
        {"evaluation": {"samples_per_prompt": 9}},
        {"methods": {"other": {"objective": "only_second"}}},
    ],
    ids=str,
)
def test_what_does_not_change_the_result_is_no_reason_to_begin_anew(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, over: dict[str, Any]
) -> None:
    path = steps.root / "kept.pt"
    cut_short(steps, monkeypatch, path)
    changed(steps, **over)
    capsys.readouterr()
    assert steps("train", method="direct", output=steps.root / "made", checkpoint=path) == 0
    assert "begins anew" not in capsys.readouterr().err
    assert not list(steps.root.glob("kept*"))
    assert len(rows(steps.root / "made")) == 20


def slowly(steps: Steps, **options: Any) -> None:
    accumulate = training.accumulate

    def slow(*given: Any) -> dict[str, float]:
        time.sleep(0.02)
        return accumulate(*given)

    training.accumulate = slow
    os._exit(steps("train", method="direct", **options))


@pytest.mark.parametrize("updates", [1, 9])
def test_a_training_that_is_killed_ends_with_the_same_bytes(steps: Steps, updates: int) -> None:
    assert steps("train", method="direct", output=steps.root / "whole" / "training") == 0
    made = {"output": steps.root / "made" / "training", "checkpoint": steps.root / "made" / "kept.pt"} | EACH
    process = multiprocessing.get_context("fork").Process(target=slowly, args=(steps,), kwargs=made)
    process.start()
    end = time.monotonic() + 15
    while time.monotonic() < end:
        logs = list((steps.root / "made").glob(".training-*/training/training.jsonl"))
        if logs and logs[0].read_bytes().count(b"\n") >= updates:
            break
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -9
    assert steps("train", method="direct", **made) == 0
    found = {}
    for name in ("whole", "made"):
        files = [path for path in (steps.root / name).rglob("*") if path.is_file()]
        found[name] = {path.relative_to(steps.root / name): path.read_bytes() for path in files}
        found[name].pop(Path("training/training.jsonl"))
    assert found["made"] == found["whole"]
    assert rows(steps.root / "made/training") == rows(steps.root / "whole/training")
