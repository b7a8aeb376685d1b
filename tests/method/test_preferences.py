"""Trajectories on disk, and pairs: which are made, which are chosen, who is called the winner."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_models import picture

from sysdpo.base.errors import UserError
from sysdpo.method.preferences import (
    as_frame,
    label_pairs,
    make_pairs,
    read_trajectories,
    select_pairs,
    write_trajectories,
)
from sysdpo.method.values import Completion


def scores(**by_prompt: list[float]) -> pd.DataFrame:
    rows = [(f"{prompt}/{i}", prompt, value) for prompt, values in by_prompt.items() for i, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["trajectory_id", "prompt_id", "score"])


def test_completions_images_and_texts_survive_storage(tmp_path: Path) -> None:
    # The second completion's tokens are not those its text would be encoded to: they must not be made anew.
    completions = [Completion("a cat", (4, 5, 2)), Completion("a cat", (4, 6, 6))]
    images = [picture(0), picture(1)]
    frame = as_frame(
        ["p1", "p1"],
        [0, 1],
        {"text": ["draw", "draw"], "captions": completions, "image": images, "score": [0.5, -1.0]},
    )
    write_trajectories(frame, tmp_path / "trajectories.parquet")
    stored = pd.read_parquet(tmp_path / "trajectories.parquet")
    assert stored["captions"].tolist() == ["a cat", "a cat"]
    assert stored["captions_tokens"].map(list).tolist() == [[4, 5, 2], [4, 6, 6]]
    assert stored["image"][0][:4] == b"\x89PNG"

    read = read_trajectories(tmp_path / "trajectories.parquet")
    assert read["trajectory_id"].tolist() == ["p1/0", "p1/1"]
    assert read["captions"].tolist() == completions
    assert [np.asarray(image).tolist() for image in read["image"]] == [np.asarray(i).tolist() for i in images]
    assert read["text"].tolist() == ["draw", "draw"]
    assert read["score"].tolist() == [0.5, -1.0]
    assert list(read.columns) == list(frame.columns)


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal kinds all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(same, one.items(), other.items()))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and same(one.tolist(), other.tolist())
    if isinstance(one, Image.Image):
        return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())
    return one == other or (one != one and other != other)


COLUMNS: dict[str, list[Any]] = {
    "texts": ["a", "b", ""],
    "texts and none": [None, "b", None],
    "whole numbers": [1, 2, 3],
    "whole numbers and none": [None, 2, 2**60 + 1],
    "large whole numbers": [1, 2**80, -(2**63)],
    "numbers": [0.5, 0.1 + 0.2, 1e300],
    "numbers of whole value": [1.0, 2.0, 3.0],
    "numbers and none": [None, 0.5, 1.0],
    "numbers of all kinds": [float("inf"), float("-inf"), float("nan")],
    "truth": [True, False, True],
    "truth and none": [None, False, True],
    "truth and numbers": [True, 1, 1.0],
    "nothing at all": [None, None, None],
    "lists": [[1, 2], [], [3]],
    "lists of lists": [[["a"], []], [[]], [["b", "c"]]],
    "lists of mixed values": [[1, "a", None, True, 0.5], [None], []],
    "lists and none": [None, [1], None],
    "tuples": [(1, 2), (), ("a", (None, [True]))],
    "mappings": [{"a": 1}, {}, {"b": {"c": [1, (2,)]}}],
    "mappings of other keys": [{1: "a", (2, "b"): None}, {True: 1}, {None: 0}],
    "mappings of other shapes": [{"a": 1}, {"b": "x"}, {"a": [1]}],
    "mixed": ["a", 1, ["a", {"b": (1,)}]],
    "bytes": [b"", b"\x00\xff", b"a"],
    "completions": [Completion("a", (1, 2)), Completion("", ()), Completion("b", (3,))],
    "completions and none": [None, Completion("a", (1, 2)), None],
    "completions and texts": ["a", Completion("a", (1, 2)), None],
    "lists of completions": [[Completion("a", (1,)), Completion("b", (2, 3))], [], [Completion("", ())]],
    "images": [picture(0), picture(1), picture(2)],
    "images and none": [None, picture(1), None],
    "grey images": [picture(0).convert("L"), picture(1).convert("L"), picture(2).convert("L")],
    "lists of images": [[picture(0), picture(1)], [], [picture(2)]],
    "arrays": [np.arange(3), np.zeros((2, 2), np.float32), np.array(True)],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_values_reach_training_as_they_were_sampled(tmp_path: Path, name: str) -> None:
    values = COLUMNS[name]
    frame = as_frame(["p"] * 3, range(3), {"before": ["x"] * 3, name: values, "after": [1, 2, 3]})
    write_trajectories(frame, tmp_path / "trajectories.parquet")
    read = read_trajectories(tmp_path / "trajectories.parquet")
    assert list(read.columns) == list(frame.columns)
    assert same(read[name].tolist(), values), (read[name].tolist(), values)
    rows = read.set_index("trajectory_id").loc[["p/2", "p/0", "p/2"]]
    assert same(rows[name].tolist(), [values[2], values[0], values[2]])


def test_numbers_of_numpy_are_stored_as_python_s(tmp_path: Path) -> None:
    frame = as_frame(
        ["p"] * 2, [0, 1], {"number": [np.float64(0.5), np.float64(1.5)], "whole": [np.int64(1), np.int64(2)]}
    )
    write_trajectories(frame, tmp_path / "trajectories.parquet")
    read = read_trajectories(tmp_path / "trajectories.parquet")
    assert same(read["number"].tolist(), [0.5, 1.5])
    assert same(read["whole"].tolist(), [1, 2])


def test_a_value_or_a_name_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trajectories.parquet"
    with pytest.raises(UserError, match=r"variable 'x': a value of the type object cannot be written"):
        write_trajectories(as_frame(["p"], [0], {"x": [[object()]]}), path)
    for name in ("x_tokens", "x_json"):
        with pytest.raises(UserError, match=f"variable '{name}': its name should not end with"):
            write_trajectories(as_frame(["p"], [0], {name: ["a"]}), path)
    assert not path.exists()


@pytest.mark.parametrize(("column", "value"), [("x_json", "{"), ("x_json", '{"unknown": 1}'), ("x", b"no picture")])
def test_stored_values_that_cannot_be_read_are_refused(tmp_path: Path, column: str, value: Any) -> None:
    frame = as_frame(["p"], [0], {}).assign(**{column: [value]})
    frame.to_parquet(tmp_path / "trajectories.parquet")
    with pytest.raises(UserError, match=rf"should hold trajectories, but '{column}' cannot be read \("):
        read_trajectories(tmp_path / "trajectories.parquet")


def test_a_completion_reads_as_its_text() -> None:
    assert str(Completion("a cat", (4, 5, 2))) == "a cat"
    assert f"{Completion('a cat', (4,))} sits" == "a cat sits"


def test_a_table_that_holds_no_trajectories_is_refused(tmp_path: Path) -> None:
    scores(p=[1.0]).to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(UserError, match=r"lacks the columns \['sample'\]"):
        read_trajectories(tmp_path / "scores.parquet")


def test_all_untied_pairs_within_a_prompt_are_made_the_better_one_chosen() -> None:
    pairs = make_pairs(scores(p1=[1.0, 3.0, 1.0], p2=[2.0, 2.5]))
    made = set(zip(pairs["chosen_id"], pairs["rejected_id"], pairs["margin"], strict=True))
    # p1: 3 beats each 1, the two 1s are tied. p2: one pair. Never across prompts.
    assert made == {("p1/1", "p1/0", 2.0), ("p1/1", "p1/2", 2.0), ("p2/1", "p2/0", 0.5)}
    assert pairs["pair_id"].is_unique
    assert set(pairs["prompt_id"]) == {"p1", "p2"}


def test_pairs_do_not_depend_on_the_order_of_the_scores() -> None:
    table = scores(p1=[0.3, 0.1, 0.2, 0.4], p2=[1.0, 0.0])
    pd.testing.assert_frame_equal(make_pairs(table), make_pairs(table.sample(frac=1, random_state=3)))


def test_ties_alone_make_no_pairs_and_training_on_none_is_refused() -> None:
    pairs = make_pairs(scores(p1=[1.0, 1.0]))
    assert pairs.empty
    with pytest.raises(UserError, match="there are none to train on"):
        select_pairs(pairs, "all", 0)


def test_all_pairs_are_kept() -> None:
    pairs = make_pairs(scores(p1=[0.3, 0.1, 0.2], p2=[1.0, 0.0]))
    assert select_pairs(pairs, "all", 0)["pair_id"].tolist() == pairs["pair_id"].tolist()


def test_best_against_worst_is_the_widest_pair_of_each_prompt() -> None:
    selected = select_pairs(make_pairs(scores(p1=[0.3, 0.1, 0.9], p2=[1.0, 0.0, 0.5])), "best_worst", 0)
    assert selected[["chosen_id", "rejected_id"]].to_numpy().tolist() == [["p1/2", "p1/1"], ["p2/0", "p2/1"]]


def test_a_random_pair_of_each_prompt_is_each_of_its_pairs_about_as_often() -> None:
    pairs = make_pairs(scores(p1=[0.0, 1.0, 2.0], p2=[1.0, 0.0]))
    picked = [select_pairs(pairs, "random", seed) for seed in range(300)]
    assert all(choice["prompt_id"].tolist() == ["p1", "p2"] for choice in picked)
    counts = pd.Series([choice["pair_id"][0] for choice in picked]).value_counts()
    # Three pairs, 100 expected each, standard deviation sqrt(300 · 1/3 · 2/3) = 8.2.
    assert len(counts) == 3
    assert counts.between(65, 135).all()
    pd.testing.assert_frame_equal(select_pairs(pairs, "random", 7), select_pairs(pairs, "random", 7))


def many_pairs(margin: float, count: int = 4000) -> pd.DataFrame:
    names = [str(row) for row in range(count)]
    chosen, rejected = [f"{name}+" for name in names], [f"{name}-" for name in names]
    return pd.DataFrame({"pair_id": names, "chosen_id": chosen, "rejected_id": rejected, "margin": margin})


def test_deterministic_labels_change_nothing() -> None:
    pairs = many_pairs(0.1, 5)
    assert label_pairs(pairs, "deterministic", 1.0, 0) is pairs


@pytest.mark.parametrize(
    ("margin", "temperature", "share"),
    # σ(0.2/0.2) = 1/(1 + e^−1) = 0.7311; σ(0.2/0.1) = 0.8808; σ(0.02/0.2) = 0.5250
    [(0.2, 0.2, 0.7311), (0.2, 0.1, 0.8808), (0.02, 0.2, 0.5250)],
)
def test_bradley_terry_labels_have_their_frequencies(margin: float, temperature: float, share: float) -> None:
    labelled = label_pairs(many_pairs(margin), "bradley_terry", temperature, 0)
    # Four standard errors of 4000 draws: 4 · sqrt(0.25/4000) = 0.032.
    assert labelled["chosen_id"].str.endswith("+").mean() == pytest.approx(share, abs=0.032)


def test_random_labels_ignore_the_score() -> None:
    labelled = label_pairs(many_pairs(50.0), "random", 0.2, 0)
    assert labelled["chosen_id"].str.endswith("+").mean() == pytest.approx(0.5, abs=0.032)


@pytest.mark.parametrize("labels", ["bradley_terry", "random"])
def test_a_swapped_pair_is_the_same_pair_with_its_margin_negated(labels: str) -> None:
    pairs = many_pairs(0.1)
    labelled = label_pairs(pairs, labels, 0.2, 3)
    swapped = labelled["chosen_id"].str.endswith("-")
    assert swapped.any()
    assert not swapped.all()
    assert (labelled["margin"] == np.where(swapped, -0.1, 0.1)).all()
    assert (labelled["chosen_id"].str[:-1] == labelled["rejected_id"].str[:-1]).all()
    assert (labelled["chosen_id"] != labelled["rejected_id"]).all()
    pd.testing.assert_frame_equal(labelled, label_pairs(pairs, labels, 0.2, 3))
    assert not labelled.equals(label_pairs(pairs, labels, 0.2, 4))
