"""A training that is cut short and started again ends as one that was not."""

import errno
import os
import pickle
import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from coin_system import coins
from cut_short import CutShort, cut_after, rows
from safetensors.torch import save_file
from tiny_models import weights
from tiny_system import preference_data

from sysdpo.method import checkpoints
from sysdpo.method.checkpoints import Checkpoint, memories_of, weights_of
from sysdpo.method.evaluation import sample_trajectories
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System
from sysdpo.method.training import align


def kept(path: Path, fingerprint: str = "this") -> Checkpoint:
    """One that is written whenever it may be."""
    return Checkpoint(path, {"data": fingerprint}, every=0.0)


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
