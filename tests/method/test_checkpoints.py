"""A training that is cut short and started again ends as one that was not."""

import copy
import errno
import json
import multiprocessing
import os
import pickle
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from coin_system import CONFIG, coins
from safetensors.torch import save_file
from steps import Steps
from tiny_models import weights
from tiny_system import preference_data

from sysdpo.method import checkpoints, training
from sysdpo.method.checkpoints import Checkpoint, memories_of, weights_of
from sysdpo.method.evaluation import sample_trajectories
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System
from sysdpo.method.training import align


class CutShort(Exception):
    """What a time limit does."""


def cut_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The process ends after it has written so many checkpoints."""
    write, written = Checkpoint.write, []

    def counted(self: Checkpoint, **state: Any) -> None:
        write(self, **state)
        written.append(state)
        if len(written) == count:
            raise CutShort

    monkeypatch.setattr(Checkpoint, "write", counted)


def kept(path: Path, fingerprint: str = "this") -> Checkpoint:
    """One that is written whenever it may be."""
    return Checkpoint(path, {"data": fingerprint}, every=0.0)


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
    checkpoint = kept(tmp_path / "kept.pt")
    with monkeypatch.context() as limited:
        cut_after(limited, cut)
        with pytest.raises(CutShort):
            run(coins, coin_data, coin_method(), tmp_path / "cut", checkpoint)
    again, log = run(coins, coin_data, coin_method(), tmp_path / "again", checkpoint)
    assert log == expected
    assert len(log) == 12
    for name in ("first", "second"):
        assert torch.equal(again.components[name].logit, whole.components[name].logit)


def test_early_stopping_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out pairs say the opposite of the training: the first look stays the best, before the cut and after."""
    drawn, pairs = coin_data(coins(), 9)
    watched = drawn, pairs.rename(columns={"chosen_id": "rejected_id", "rejected_id": "chosen_id"})
    method = coin_method(steps=30, rounds=1, eval_every=2, early_stopping=3)
    ends = []
    for name, cut in (("whole", 0), ("cut", 5), ("again", 0)):
        system = coins()
        collect: Callable = partial(coin_data, system)
        checkpoint = Checkpoint() if name == "whole" else kept(tmp_path / "kept.pt")
        with monkeypatch.context() as limited:
            cut_after(limited, cut)
            with pytest.raises(CutShort) if cut else nullcontext():
                align(
                    *(system, collect, method),
                    seed=0,
                    output=tmp_path / name,
                    checkpoint=checkpoint,
                    held_out=watched,
                )
                ends.append((rows(tmp_path / name), system.components["first"].logit))
    (log, logit), (log_again, logit_again) = ends
    assert len(log) == 2 * (1 + 3)
    assert log_again == log
    assert torch.equal(logit_again, logit)


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
    checkpoint = kept(tmp_path / "kept.pt")
    with monkeypatch.context() as limited:
        cut_after(limited, 1)
        with pytest.raises(CutShort):
            run(make_system, collect, method, tmp_path / "cut", checkpoint)
    # Candidates are chosen for three updates at once: only there may it be cut.
    state = checkpoint.read(make_system(), method)
    assert state is not None
    assert state.step == 3
    again, log = run(make_system, collect, method, tmp_path / "again", checkpoint)
    assert log == expected
    assert len(log) == 6
    for name in names:
        for ours, theirs in zip(weights(again.components[name]), weights(whole.components[name]), strict=True):
            assert torch.equal(ours, theirs)


def test_what_frozen_models_have_computed_is_kept_up_to_a_limit(make_system, monkeypatch: pytest.MonkeyPatch) -> None:
    system = make_system()
    frame, _ = preference_data(system)
    system.log_probs({name: frame[name].tolist() for name in frame}, draw=range(len(frame)))
    memories = memories_of(system)
    assert len(memories["writer"]["references"]) == len(frame)
    assert all(memories["painter"][name] for name in ("references", "latents", "prompts"))
    monkeypatch.setattr(checkpoints, "MEMORY_LIMIT", 1000)
    assert memories_of(system) == {}


def written(path: Path) -> tuple[System, MethodSettings, dict[str, Any]]:
    """A checkpoint of the third update of a training of coins."""
    system, settings = coins(0.1, 0.2), coin_method()
    now: dict[str, Any] = {"round": 0, "step": 3, "began": weights_of(system), "weights": weights_of(system)}
    rest = {"optimizer": {"state": {0: {"step": 3.0}}}, "schedule": {}, "memories": {}, "seconds": 1.0, "log": "{}\n"}
    kept(path).write(**now, **rest)
    return system, settings, now | rest


def with_other_weights(path: Path) -> None:
    _, _, state = written(path)
    kept(path).write(**state | {"weights": {"first": [torch.zeros(2)], "second": [torch.zeros(())]}})


def with_other_names(path: Path) -> None:
    _, _, state = written(path)
    kept(path).write(**state | {"began": {"third": [torch.zeros(())]}})


def beyond_the_end(path: Path) -> None:
    _, _, state = written(path)
    kept(path).write(**state | {"step": 70})


def as_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("in it")


def shortened(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def with_extra_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


UNREADABLE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut to half": shortened(0.5),
    "cut to its header": shortened(0.1),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": with_extra_bytes,
    "zeros, as after a power cut": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "garbage": lambda path: path.write_bytes(random.Random(0).randbytes(3000)),
    "a text": lambda path: path.write_text("hello"),
    "a folder": as_a_folder,
    "a file of torch's": lambda path: torch.save({"fingerprint": "this", "step": 3}, path),
    "another pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "another safetensors file": lambda path: save_file({"logit": torch.zeros(3)}, path),
    "other shapes": with_other_weights,
    "other components": with_other_names,
    "an update that is none": beyond_the_end,
}


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE)
def test_one_that_is_of_no_use_is_set_aside_and_the_training_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture, spoil: Callable[[Path], Any]
) -> None:
    path = tmp_path / "kept.pt"
    system, settings, _ = written(path)
    assert kept(path).read(system, settings) is not None
    spoil(path)
    content = None if path.is_dir() else path.read_bytes()
    capsys.readouterr()
    assert kept(path).read(system, settings) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sysdpo: checkpoint: '{path}' cannot be read (")
    assert line.endswith("; it is now 'kept.pt.unusable', and the training begins anew")
    aside = tmp_path / "kept.pt.unusable"
    assert [each.name for each in tmp_path.iterdir()] == [aside.name]
    assert aside.is_dir() if content is None else aside.read_bytes() == content
    assert kept(path).read(system, settings) is None
    assert capsys.readouterr().err == ""


def test_one_that_cannot_be_opened_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "kept.pt"
    system, settings, _ = written(path)

    def refuse(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(checkpoints, "safe_open", refuse)
    assert kept(path).read(system, settings) is None
    assert "Permission denied" in capsys.readouterr().err


def test_no_second_file_takes_the_place_of_one_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "kept.pt"
    for content in ("one", "two", "three"):
        system, settings, _ = written(path)
        path.write_text(content)
        kept(path).read(system, settings)
    names = ["kept.pt.unusable", "kept.pt.unusable-2", "kept.pt.unusable-3"]
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == dict(
        zip(names, ("one", "two", "three"), strict=True)
    )


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "kept.pt"
    system, settings, _ = written(path)
    whole = path.read_bytes()
    for bit in [*range(0, 8 * len(whole), 97), *random.Random(0).sample(range(8 * len(whole)), 300)]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert kept(path).read(system, settings) is None, bit
        (tmp_path / "kept.pt.unusable").unlink()


def test_it_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(opened: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{opened}")).name)
        fsync(opened)

    def renamed(self: Path, target: Path) -> Path:
        events.append("renamed")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    written(tmp_path / "kept.pt")
    assert events == ["kept.pt", "renamed", tmp_path.name]


def test_it_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "kept.pt"
    system, settings, state = written(path)
    half = torch.ones(2, dtype=torch.bfloat16)
    values = {(3, -1, 5): torch.tensor(0.5), b"\x00\xff": half, "text": {"a": (1, [2.5])}}
    state |= {"memories": {"first": {"_references": values}}, "optimizer": {"lr": 0.1, "none": None}}
    kept(path).write(**state)
    read = kept(path).read(system, settings)
    assert read is not None
    found = read.memories["first"]["_references"]
    assert list(found) == list(values)
    assert torch.equal(found[(3, -1, 5)], values[(3, -1, 5)])
    assert torch.equal(found[b"\x00\xff"], half)
    assert found["text"] == {"a": (1, [2.5])}
    assert read.optimizer == {"lr": 0.1, "none": None}


def test_one_of_another_training_is_set_aside_and_what_differs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "kept.pt"
    system, settings, _ = written(path)
    assert Checkpoint(path, {"data": "this", "seed": "1"}).read(system, settings) is None
    assert "is of another training, which differs in seed; it is now" in capsys.readouterr().err


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
