"""Preferences that come with the prompts."""

import json
from pathlib import Path

import coin_system
import pandas as pd
import pytest
from coin_system import CONFIG, Coins
from steps import Steps

from sysdpo.method.preferences import as_frame, read_trajectories
from sysdpo.run.cli import main


class Judged(Coins):
    """The data call heads better than tails, whatever the prompt, once for each prompt."""

    def preferences(self, prompts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        return judged(prompts)


def judged(prompts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = [name for name in prompts["prompt_id"] for _ in range(2)]
    frame = as_frame(names, [0, 1] * len(prompts), {"text": names, "right": ["tails", "heads"] * len(prompts)})
    ids = frame["trajectory_id"].tolist()
    pairs = {"pair_id": ids[1::2], "prompt_id": names[::2], "chosen_id": ids[1::2], "rejected_id": ids[::2]}
    return frame, pd.DataFrame(pairs | {"margin": 1.0})


def write_dataset(steps: Steps) -> int:
    places = ["--prompts", str(steps.runs / "prompts.parquet"), "--output", str(steps.runs / "dataset")]
    return main(["dataset", "--config", str(steps.config), "--system", steps.system, *places])


def test_given_preferences_are_those_of_the_training_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coin_system, "build", Judged)
    steps = Steps(tmp_path, CONFIG)
    assert steps("prompts") == 0
    assert write_dataset(steps) == 0

    prompts = pd.read_parquet(steps.runs / "prompts.parquet").query("split == 'train'")["prompt_id"].tolist()
    trajectories = read_trajectories(steps.runs / "dataset/trajectories.parquet")
    assert trajectories["prompt_id"].tolist() == [name for name in prompts for _ in range(2)]
    assert "left" not in trajectories  # final outputs alone
    assert not (steps.runs / "dataset/scores.parquet").exists()
    pairs = pd.read_parquet(steps.runs / "dataset/pairs.parquet")
    assert pairs["prompt_id"].tolist() == prompts
    outputs = trajectories.set_index("trajectory_id")["right"]
    assert set(outputs[pairs["chosen_id"]]) == {"heads"}
    assert set(outputs[pairs["rejected_id"]]) == {"tails"}


def test_a_system_whose_data_have_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["systems"]["coins"]["methods"]["apart"] = {"objective": "sampling", "preferences": "dataset"}
    steps = Steps(tmp_path, config)
    assert steps("prompts") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "systems.coins.methods.apart.preferences: 'dataset' should be 'sampled'" in said
    assert not steps.runs.exists()


def test_outputs_alone_do_not_do_for_a_method_that_must_see_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(coin_system, "build", Judged)
    config = json.loads(json.dumps(CONFIG))
    config["systems"]["coins"]["methods"]["direct"]["preferences"] = "dataset"
    steps = Steps(tmp_path, config)
    assert steps("prompts") == steps("foundation", model="mint") == 0
    assert write_dataset(steps) == 0
    tables = {name: steps.runs / f"dataset/{name}.parquet" for name in ("trajectories", "pairs")}
    assert steps("train", method="direct", scores=None, **tables) == 2
    said = capsys.readouterr().err
    assert "they have no values of ['left', 'shown'], which 'direct' must see; use an objective with hidden" in said
    assert not (steps.run / "direct").exists()
