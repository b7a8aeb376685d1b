"""The command line on a system that is not the project's own, from prompts to comparisons."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from coin_system import CONFIG, Coin, Coins
from safetensors.torch import load_file
from steps import Steps

from sysdpo.components.table import TableDecoder
from sysdpo.method.function import Function
from sysdpo.method.system import System
from sysdpo.run.cli import GROUPS, called, commands, main
from sysdpo.run.options import written

REPOSITORY = Path(__file__).parents[2]
STEPS = commands().commands


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Steps:
    steps = Steps(tmp_path_factory.mktemp("coins"), CONFIG)
    steps.prepare()
    for method in ("direct", "only_first"):
        assert steps("train", method=method) == 0
        assert steps("evaluate", method=method, training=steps.run / method / "training") == 0
    assert steps("evaluate", method="before") == 0
    steps.compare("before", "direct", "only_first")
    return steps


def test_the_training_split_is_sampled_scored_and_paired(finished: Steps) -> None:
    prompts = pd.read_parquet(finished.runs / "prompts.parquet").set_index("prompt_id")
    trajectories = pd.read_parquet(finished.run / "trajectories.parquet")
    assert len(trajectories) == 8 * 6
    assert set(prompts.loc[trajectories["prompt_id"], "split"]) == {"train"}
    scores = pd.read_parquet(finished.run / "scores.parquet").set_index("trajectory_id")["score"]
    assert set(scores.index) == set(trajectories["trajectory_id"])
    pairs = pd.read_parquet(finished.run / "pairs.parquet")
    margins = scores[pairs["chosen_id"]].to_numpy() - scores[pairs["rejected_id"]].to_numpy()
    assert (margins == pairs["margin"]).all()
    assert (margins > 0).all()


def test_a_system_from_elsewhere_is_aligned_without_touching_the_library(finished: Steps) -> None:
    adapters = finished.run / "direct" / "training" / "adapters"
    assert {folder.name for folder in adapters.iterdir()} == {"first", "second"}
    logits = [load_file(adapters / name / "coin.safetensors")["logit"].item() for name in ("first", "second")]
    assert min(logits) > 0.5
    log = (finished.run / "direct" / "training" / "training.jsonl").read_text().splitlines()
    assert len(log) == 20
    assert json.loads(log[-1])["loss"] < json.loads(log[0])["loss"]
    assert {path.name for path in (finished.run / "only_first" / "training" / "adapters").iterdir()} == {"first"}


def parts_of(left: str) -> list[Any]:
    return [left, (1, None), {"deep": [[True, 2], {3: (0.5,)}]}, []]


class Listening(Coin):
    """A coin that notes the conditions it is asked about."""

    heard: ClassVar[list[Any]] = []

    def log_probs(self, conditions, values, *, draw):
        self.heard += conditions
        return super().log_probs(conditions, values, draw=draw)


@pytest.mark.parametrize("objective", ["direct", "sampling"])
def test_a_list_reaches_training_as_it_was_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    def system(self: Coins, foundation: Path) -> System:
        first = Listening(0.0)
        even = torch.full((1, 2), 0.5).log()
        first.decoder = lambda conditions: TableDecoder(["heads", "tails"], even.expand(len(conditions), 2))
        coins = {"first": first, "second": Listening(0.0), "parser": Function(parts_of)}
        return System(self.inputs, self.nodes, coins)

    monkeypatch.setattr(Coins, "system", system)
    monkeypatch.setattr(Listening, "heard", [])
    config = copy.deepcopy(CONFIG)
    config["systems"]["coins"]["methods"]["tried"] = {"objective": objective, "candidates": {"count": 2}}
    steps = Steps(tmp_path, config)
    steps.prepare()
    Listening.heard.clear()
    assert steps("train", method="tried") == 0
    heard = [shown for _, shown in (each for each in Listening.heard if len(each) == 2)]
    assert {repr(shown) for shown in heard} == {repr(parts_of(left)) for left in ("heads", "tails")}


def test_evaluation_uses_the_test_split_and_what_was_trained(finished: Steps) -> None:
    for method in ("before", "direct"):
        samples = pd.read_parquet(finished.run / method / "evaluation" / "samples.parquet")
        assert len(samples) == 4 * 2
    metrics = pd.read_csv(finished.root / "metrics.csv").set_index(["method", "metric"])["mean"]
    assert metrics["direct", "preference_score"] > metrics["before", "preference_score"]
    assert metrics["before", "kl_first"] == 0.0
    assert metrics["direct", "kl_first"] != 0.0
    assert metrics["only_first", "kl_second"] == 0.0


def test_trained_methods_are_compared_with_the_baselines(finished: Steps) -> None:
    compared = pd.read_csv(finished.root / "comparisons.csv")
    pairs = set(zip(compared["method"], compared["baseline"], strict=True))
    assert pairs == {("direct", "before"), ("direct", "only_first"), ("only_first", "before")}


def test_another_split_can_be_evaluated(finished: Steps) -> None:
    output = finished.run / "before" / "validation"
    assert finished("evaluate", method="before", split="validation", output=output) == 0
    prompts = pd.read_parquet(finished.runs / "prompts.parquet").set_index("prompt_id")
    samples = pd.read_parquet(output / "samples.parquet")
    assert set(prompts.loc[samples["prompt_id"], "split"]) == {"validation"}


def test_foundation_models_are_inspected(finished: Steps) -> None:
    assert finished("inspect") == 0
    assert json.loads((finished.run / "foundation" / "quality.json").read_text()) == {"logit": 0.0}


def test_the_same_steps_give_the_same_bytes(finished: Steps, tmp_path: Path) -> None:
    again = Steps(tmp_path / "again", CONFIG)
    again.prepare()
    assert again("train", method="direct") == 0
    assert again("evaluate", method="direct", training=again.run / "direct" / "training") == 0
    for name in ("trajectories.parquet", "scores.parquet", "pairs.parquet", "direct/evaluation/metrics.parquet"):
        assert (again.run / name).read_bytes() == (finished.run / name).read_bytes(), name


def test_rounds_sample_fresh_trajectories_from_the_trained_system(finished: Steps, tmp_path: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["systems"]["coins"]["training"]["rounds"] = 2
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    output = tmp_path / "training"
    assert finished("train", method="direct", config=tmp_path / "config.yaml", output=output) == 0
    log = [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]
    assert [row["round"] for row in log] == [0] * 20 + [1] * 20
    assert log[20]["loss"] == pytest.approx(0.693147, abs=1e-6)
    one = load_file(finished.run / "direct" / "training" / "adapters" / "first" / "coin.safetensors")["logit"]
    assert load_file(output / "adapters" / "first" / "coin.safetensors")["logit"] > one


def test_the_module_is_a_program(finished: Steps, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sysdpo", *finished.arguments("pair", output=tmp_path / "pairs.parquet")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "pairs.parquet").read_bytes() == (finished.run / "pairs.parquet").read_bytes()


@pytest.mark.parametrize("step", STEPS)
def test_every_step_explains_itself_and_every_option(step: str, capsys: pytest.CaptureFixture) -> None:
    assert main([step, "--help"]) == 0
    said = plain(capsys.readouterr().out)
    assert " ".join(STEPS[step].help.split()[:5]) in " ".join(said.split())
    for param in STEPS[step].params:
        assert param.help.endswith("."), param.name
        assert param.help.split()[0] in said.partition(f" {called(param)} ")[2], param.name


def plain(text: str) -> str:
    """Less colours, which continuous integration may ask for."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_all_steps_are_listed_in_groups_without_the_model_libraries() -> None:
    """The command that a stranger begins with."""
    absent = "sys.modules.update(dict.fromkeys(['torch', 'transformers', 'diffusers', 'peft', 'accelerate']))"
    code = f"import sys; {absent}; from sysdpo.run.cli import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    lines = plain(done.stdout).splitlines()
    groups = [line.split(" ─")[0].removeprefix("╭─ ") for line in lines if line.startswith("╭")]
    assert groups == ["Options", *GROUPS, "Many steps"]
    assert [found[1] for line in lines if (found := re.match(r"│ ([a-z]+) ", line))] == list(STEPS)
    assert "completion" not in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["sample", "--help"]])
def test_a_reader_may_leave_before_the_help_ends(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "sysdpo", *words]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=100)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_without_a_word_the_help_is_shown(capsys: pytest.CaptureFixture) -> None:
    for words in ([], ["sample"], ["plan"], ["warm"]):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert "Usage: sysdpo" in plain(printed.out)
        assert printed.err == ""


WRITING = [
    (step, output, param.name)
    for step, command in STEPS.items()
    for output in written(command.callback)
    for param in command.params
    if param.name != output and (param.type_descriptor.parameter_info.parser is Path)
]
"""Every path that a step replaces, with every other path of the step."""


@pytest.mark.parametrize(("step", "output", "other"), WRITING)
def test_a_step_never_replaces_what_it_reads(
    step: str, output: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "both").write_text("what is there")
    words = [step]
    for param in STEPS[step].params:
        path = tmp_path / ("both" if param.name in (output, other) else param.name)
        value = str(path) if param.type_descriptor.parameter_info.parser is Path else "1"
        if param.required or param.name in (output, other):
            words += [value] if param.param_type_name == "argument" else [param.opts[0], value]
    assert main(words) == 2
    said = capsys.readouterr().err
    replaced = re.fullmatch(
        rf"sysdpo {step}: --(\w+): '{tmp_path}/both' (would replace|should be another path)\b.*\n", said
    )
    assert replaced, said
    assert replaced[1] in (output, other)
    assert (tmp_path / "both").read_text() == "what is there"


def test_every_step_that_makes_a_file_says_what_it_replaces() -> None:
    making = {step for step, command in STEPS.items() if any(param.name == "output" for param in command.params)}
    drawing = {"figure", "draw"}  # into a folder, beside other figures
    assert {step for step, _, _ in WRITING} == making - drawing | {"plan", "try"}
