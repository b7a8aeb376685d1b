"""A training that is cut short and started again ends as one that was not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from coin_system import CONFIG, coins
from steps import Steps
from tiny_models import weights
from tiny_system import preference_data

from sysdpo import checkpoints
from sysdpo.checkpoints import Checkpoint, fingerprint
from sysdpo.evaluation import sample_trajectories
from sysdpo.settings import MethodSettings
from sysdpo.system import System
from sysdpo.training import align


class CutShort(Exception):
    """What a time limit does."""


@pytest.fixture(autouse=True)
def _always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


def cut_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The process ends after it has written so many checkpoints."""
    write, written = Checkpoint.write, []

    def counted(self: Checkpoint, **moment: Any) -> None:
        write(self, **moment)
        written.append(moment)
        if len(written) == count:
            raise CutShort

    monkeypatch.setattr(Checkpoint, "write", counted)


def rows(folder: Path) -> list[dict[str, float]]:
    read = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read]


def run(
    make: Callable[[], System], collect: Callable, method: MethodSettings, output: Path, checkpoint: Checkpoint
) -> tuple[System, list[dict[str, float]]]:
    system = make()
    align(system, lambda number: collect(system, number), method, seed=0, output=output, checkpoint=checkpoint)
    return system, rows(output)


def coin_data(system: System, number: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sampled from the system as it is; heads are better."""
    prompts = pd.DataFrame({"prompt_id": ["p0", "p1"], "text": ["a", "b"]})
    benchmark = type("Benchmark", (), {"inputs": ("text",)})
    drawn = sample_trajectories(benchmark, system, prompts, 8, seed=number, purpose="train")
    drawn["heads"] = (drawn["left"] == "heads").astype(int) + (drawn["right"] == "heads")
    found = drawn.merge(drawn, on="prompt_id").query("heads_x > heads_y")
    ids = {"chosen_id": found["trajectory_id_x"], "rejected_id": found["trajectory_id_y"]}
    pairs = pd.DataFrame(ids | {"prompt_id": found["prompt_id"], "margin": found["heads_x"] - found["heads_y"]})
    return drawn, pairs.reset_index(drop=True).assign(pair_id=[f"q{row}" for row in range(len(pairs))])


def coin_method(**over: Any) -> MethodSettings:
    names = ("first", "second")
    common = {"steps": 6, "batch_size": 4, "warmup_steps": 1, "pairs": "all", "rounds": 2}
    rates = {"learning_rate": dict.fromkeys(names, 0.2), "chosen_weight": dict.fromkeys(names, 0.0)}
    return MethodSettings(**({"objective": "direct"} | common | rates | over))


@pytest.mark.parametrize("cut", [1, 4, 6, 8, 11])
def test_it_ends_as_if_it_had_not_been_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    whole, expected = run(coins, coin_data, coin_method(), tmp_path / "whole", Checkpoint())
    checkpoint = Checkpoint(tmp_path / "kept.pt", "this")
    with monkeypatch.context() as limited:
        cut_after(limited, cut)
        with pytest.raises(CutShort):
            run(coins, coin_data, coin_method(), tmp_path / "cut", checkpoint)
    again, log = run(coins, coin_data, coin_method(), tmp_path / "again", checkpoint)
    assert log == expected
    assert len(log) == 12
    for name in ("first", "second"):
        assert torch.equal(again.components[name].logit, whole.components[name].logit)


def test_models_and_their_candidates_go_on_too(make_system, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("writer", "painter")
    method = coin_method(
        objective="sampling",
        rounds=1,
        batch_size=2,
        candidates={"count": 2, "refresh": 3},
        learning_rate=dict.fromkeys(names, 0.01),
        chosen_weight=dict.fromkeys(names, 0.01),
    )

    def collect(system: System, number: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        return preference_data(system)

    whole, expected = run(make_system, collect, method, tmp_path / "whole", Checkpoint())
    checkpoint = Checkpoint(tmp_path / "kept.pt", "this")
    with monkeypatch.context() as limited:
        cut_after(limited, 1)
        with pytest.raises(CutShort):
            run(make_system, collect, method, tmp_path / "cut", checkpoint)
    # Candidates are chosen for three updates at once: only there may it be cut.
    assert torch.load(tmp_path / "kept.pt", weights_only=True)["step"] == 3
    again, log = run(make_system, collect, method, tmp_path / "again", checkpoint)
    assert len(log) == len(expected) == 6
    for ours, theirs in zip(log, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    for name in names:
        for ours, theirs in zip(weights(again.components[name]), weights(whole.components[name]), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_checkpoint_of_other_data_or_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    data = tmp_path / "pairs"
    data.write_text("a")
    first = fingerprint([data], coin_method(), 0)
    assert first == fingerprint([data], coin_method(), 0)
    others = [fingerprint([data], coin_method(beta=0.7), 0), fingerprint([data], coin_method(), 1)]
    data.write_text("b")
    others.append(fingerprint([data], coin_method(), 0))
    Checkpoint(tmp_path / "kept.pt", first).write(step=3)
    assert Checkpoint(tmp_path / "kept.pt", first).read() == {"step": 3}
    assert [Checkpoint(tmp_path / "kept.pt", other).read() for other in others] == [None] * 3


def test_the_step_goes_on_and_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(tmp_path / "coins", CONFIG)
    steps.prepare()
    kept = tmp_path / "kept.pt"
    assert steps("train", method="direct", output=tmp_path / "whole") == 0
    with monkeypatch.context() as limited:
        cut_after(limited, 5)
        with pytest.raises(CutShort):
            steps("train", method="direct", output=tmp_path / "made", checkpoint=kept)
    assert kept.exists()
    assert not (tmp_path / "made").exists()
    assert steps("train", method="direct", output=tmp_path / "made", checkpoint=kept) == 0
    assert rows(tmp_path / "made") == rows(tmp_path / "whole")
    assert not kept.exists()
