"""Sampling and evaluation in parts give what one job gives."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny_models
from coin_system import CONFIG
from PIL import Image
from steps import Steps
from tiny_models import perturb

from sysdpo.base.errors import UserError
from sysdpo.base.files import write_table
from sysdpo.method.description import Description, Metric
from sysdpo.method.evaluation import evaluate, sample_trajectories
from sysdpo.method.preferences import as_frame, read_trajectories, write_trajectories
from sysdpo.method.values import Completion
from sysdpo.run.cli import main
from sysdpo.run.parts import gather_parts, prompts_of_part

PROMPTS = pd.DataFrame({"prompt_id": [f"p{row}" for row in range(7)]})


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_are_contiguous_and_cover_every_prompt_once(count: int) -> None:
    parts = [prompts_of_part(PROMPTS, f"{number}/{count}", "shards") for number in range(1, count + 1)]
    assert [name for part, _ in parts for name in part["prompt_id"]] == PROMPTS["prompt_id"].tolist()
    assert [place for _, place in parts] == [0, *np.cumsum([len(part) for part, _ in parts])[:-1]]
    sizes = {len(part) for part, _ in parts}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("part", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2"])
def test_what_is_no_part_is_refused(part: str) -> None:
    with pytest.raises(UserError, match=r"--part: .* should be two numbers, '2/4' for the second of four"):
        prompts_of_part(PROMPTS, part, "shards")


def test_more_parts_than_prompts_are_refused() -> None:
    with pytest.raises(UserError, match=r"trajectories\.shards: 8 should be at most the number of prompts, 7"):
        prompts_of_part(PROMPTS, "1/8", "systems.x.trajectories.shards")


class Pictures:
    """A benchmark of the tiny writer and painter, scored by how dark the first picture is."""

    inputs = ("text",)
    description = Description(metrics={"length": Metric("Length", False)})

    def score(self, prompts, trajectories, foundation):
        dark = [-float(np.asarray(image).mean()) for image in trajectories["image_1"]]
        return trajectories[["trajectory_id", "prompt_id"]].assign(score=dark)

    def metrics(self, prompts, trajectories, scores, foundation):
        return pd.DataFrame({"length": [float(len(caption.tokens)) for caption in trajectories["caption"]]})


def small_prompts() -> pd.DataFrame:
    texts = ["cat", "big dog", "red cat", "dog", "small cat"]
    return pd.DataFrame({"prompt_id": [f"p{row}" for row in range(5)], "split": "test", "text": texts})


@pytest.fixture
def trained(make_system):
    """A system that has moved away from its reference."""
    system = make_system()
    system.components["painter"].sampling = tiny_models.SAMPLING
    for component in system.components.values():
        perturb(component)
    return system


def whole_and_gathered(folder: Path, make: Callable[[pd.DataFrame, int, Path], None], ending: str) -> list[Path]:
    """What one job makes, and what three make and `gather` puts together."""
    prompts = small_prompts()
    make(prompts, 0, folder / f"whole{ending}")
    parts = []
    for number in (1, 2, 3):
        part, place = prompts_of_part(prompts, f"{number}/3", "shards")
        parts.append(folder / f"{number}{ending}")
        make(part.reset_index(drop=True), place, parts[-1])
    gather_parts(parts, folder / f"gathered{ending}")
    return [folder / f"whole{ending}", folder / f"gathered{ending}"]


def assert_same_trajectories(whole: Path, gathered: Path) -> None:
    left, right = read_trajectories(whole), read_trajectories(gathered)
    assert left.columns.tolist() == right.columns.tolist()
    assert len(left) == len(right) > 0
    for name in left.columns:
        values = list(zip(left[name], right[name], strict=True))
        if isinstance(left[name].iloc[0], Image.Image):
            # A batch of another size may round the last bit otherwise, and that a pixel.
            apart = [np.abs(np.asarray(one, int) - np.asarray(other, int)) for one, other in values]
            assert max(each.max() for each in apart) <= 1, name
            assert np.mean([each.mean() for each in apart]) < 0.01, name
        elif left[name].dtype == float:
            assert left[name].to_numpy() == pytest.approx(right[name].to_numpy(), rel=1e-5), name
        else:
            assert all(one == other for one, other in values), name


def test_gathered_trajectories_are_those_of_one_job(trained, tmp_path: Path) -> None:
    def make(prompts: pd.DataFrame, place: int, path: Path) -> None:
        seeds = {"seed": 3, "purpose": "train", "offset": place}
        write_trajectories(sample_trajectories(Pictures(), trained, prompts, 2, **seeds), path)

    assert_same_trajectories(*whole_and_gathered(tmp_path, make, ".parquet"))


@pytest.mark.parametrize("best_of", [1, 2])
def test_a_gathered_evaluation_is_that_of_one_job(trained, tmp_path: Path, best_of: int) -> None:
    counts = {"samples": 2, "best_of": best_of}

    def make(prompts: pd.DataFrame, place: int, path: Path) -> None:
        options = {"seed": 3, "purpose": "test", "greedy": ["length"], "offset": place}
        samples, metrics = evaluate(Pictures(), trained, prompts, Path(), **counts, **options)
        path.mkdir()
        write_trajectories(samples, path / "samples.parquet")
        write_table(metrics, path / "metrics.parquet")

    folders = whole_and_gathered(tmp_path, make, "")
    assert_same_trajectories(*(folder / "samples.parquet" for folder in folders))
    left, right = (pd.read_parquet(folder / "metrics.parquet") for folder in folders)
    names = ["prompt_id", "sample", "metric"]
    pd.testing.assert_frame_equal(left[names], right[names])
    selected = {"kl_selection"} if best_of > 1 else set()
    shown = {"length", "preference_score", "kl_writer", "kl_painter", "length_greedy"}
    assert set(left["metric"]) == shown | selected
    assert left["value"].to_numpy() == pytest.approx(right["value"].to_numpy(), rel=1e-3, abs=1e-4)
    drifted = left[left["metric"] == "kl_painter"]["value"]
    assert (drifted != 0).all()


def test_a_column_that_is_empty_in_one_part_has_the_type_that_it_has_in_another(tmp_path: Path) -> None:
    names = {"trajectory_id": list("abcd"), "prompt_id": "p", "sample": range(4)}
    table = pd.DataFrame(names | {"note": [None, None, "x", None]})
    table.to_parquet(tmp_path / "whole")
    parts = [tmp_path / "a", tmp_path / "b"]
    for part, rows in zip(parts, (table[:2], table[2:]), strict=True):
        rows.to_parquet(part)
    gather_parts(parts, tmp_path / "gathered")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "gathered"), pd.read_parquet(tmp_path / "whole"))


KINDS = ([1, 2], [0.5, 1.0], ["a", "b"], ["a", None], [[1], (2,)], [None, {"a": 1}], [Completion("a", (1,))] * 2)


@pytest.mark.parametrize("first", range(len(KINDS)))
@pytest.mark.parametrize("second", range(len(KINDS)))
def test_values_of_other_kinds_in_other_parts_are_gathered_as_they_are(tmp_path: Path, first: int, second: int) -> None:
    parts = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for number, kind in enumerate((first, second)):
        frame = as_frame([f"p{number}"] * 2, [0, 1], {"value": KINDS[kind], "end": ["x", "y"]})
        write_trajectories(frame, parts[number])
    gather_parts(parts, tmp_path / "all.parquet")
    read = read_trajectories(tmp_path / "all.parquet")
    assert read["value"].tolist() == KINDS[first] + KINDS[second]
    assert list(map(type, read["value"])) == list(map(type, KINDS[first] + KINDS[second]))
    assert read["end"].tolist() == ["x", "y", "x", "y"]


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    parts = {name: tmp_path / f"{name}.parquet" for name in ("one", "other", "again", "ids", "none")}
    write_trajectories(as_frame(["p0"], [0], {"value": ["a"]}), parts["one"])
    write_trajectories(as_frame(["p1"], [0], {"other": ["a"]}), parts["other"])
    write_trajectories(as_frame(["p0"], [0], {"value": ["b"]}), parts["again"])
    pd.DataFrame({"id": [1]}).to_parquet(parts["ids"])
    for name, said in {
        "other": "--parts: .* should have the same columns",
        "again": "the parts of '.*all.parquet': row 1 repeats another row's trajectory_id",
        "ids": r"ids.parquet' lacks the columns",
        "none": r"none.parquet' should be a .parquet table, but cannot be read",
    }.items():
        with pytest.raises(UserError, match=said):
            gather_parts([parts["one"], parts[name]], tmp_path / "all.parquet")
        assert not (tmp_path / "all.parquet").exists()


def test_the_steps_in_parts_give_the_files_of_the_steps_in_one(tmp_path: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["systems"]["coins"]["methods"]["best"] = {"objective": "none", "best_of": 3}
    steps = Steps(tmp_path, config)
    steps.prepare()
    assert steps("evaluate", method="best") == 0
    places = SimpleNamespace(trajectories=steps.run / "trajectories.parquet", evaluation=steps.run / "best/evaluation")
    for step, whole, ending in (("sample", places.trajectories, ".parquet"), ("evaluate", places.evaluation, "")):
        parts = [tmp_path / f"{step}-{number}{ending}" for number in (1, 2, 3)]
        for number, part in enumerate(parts, 1):
            assert steps(step, method="best" if step == "evaluate" else None, part=f"{number}/3", output=part) == 0
        gathered = tmp_path / f"{step}{ending}"
        given = ["--config", str(steps.config), "--parts", *map(str, parts), "--output", str(gathered)]
        assert main(["gather", *given]) == 0
        for name in [""] if ending else ["samples.parquet", "metrics.parquet"]:
            pd.testing.assert_frame_equal(pd.read_parquet(whole / name), pd.read_parquet(gathered / name))
