"""A benchmark from preferences alone: its prompts, their splits, its pairs, and what it offers."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sysdpo import Benchmark, Node, System, Table, UserError
from sysdpo.base.functions import local_data
from sysdpo.base.tables import check_prompts
from sysdpo.method.benchmark import HasPreferences, Scored
from sysdpo.method.offer import Offer

WORDS = ("red", "blue")
COLOURS = [f"c{number}" for number in range(20)]


def make() -> System:
    table = Table([(word,) for word in COLOURS], WORDS, torch.zeros(20, 2))
    return System(["colour"], [Node("answer", table, ["colour"])])


def lines(**more: Any) -> list[dict[str, Any]]:
    """Two pairs of each of 20 prompts."""
    return [{"prompt": word, "chosen": "red", "rejected": "blue", **more} for word in COLOURS for _ in range(2)]


def test_prompts_are_split_at_random_and_always_alike() -> None:
    prompts = Benchmark(make, preferences=lines()).prompts()
    check_prompts(prompts, "prompts", ["colour"])
    assert prompts["split"].value_counts().to_dict() == {"train": 14, "test": 4, "validation": 2}
    assert prompts["text"].tolist() == prompts["colour"].tolist() == COLOURS
    assert Benchmark(make, preferences=lines()).prompts().equals(prompts)


def test_the_pairs_are_those_of_the_rows() -> None:
    benchmark = Benchmark(make, preferences=lines())
    prompts = benchmark.prompts()
    trajectories, pairs = benchmark.preferences(prompts)
    assert len(pairs) == 40
    assert len(trajectories) == 80
    test = prompts[prompts["split"] == "test"]
    trajectories, pairs = benchmark.preferences(test)
    assert len(pairs) == 8
    assert set(trajectories["prompt_id"]) == set(test["prompt_id"])


def test_contents_stay_in_one_split() -> None:
    rows = [row | {"content": f"about {number // 8}"} for number, row in enumerate(lines())]
    prompts = Benchmark(make, preferences=rows).prompts()
    assert prompts.groupby("content")["split"].nunique().tolist() == [1] * 5


def test_a_column_says_which_prompts_are_whose() -> None:
    rows = [row | {"split": "test" if number < 4 else "train", "hard": 1} for number, row in enumerate(lines())]
    prompts = Benchmark(make, preferences=rows).prompts()
    assert prompts["split"].tolist() == ["test"] * 2 + ["train"] * 18
    assert prompts["hard"].tolist() == [1] * 20
    with pytest.raises(UserError, match="row 1: its split 'train' should be 'test', as that of the same prompt"):
        Benchmark(make, preferences=[rows[0], rows[1] | {"split": "train"}]).prompts()
    with pytest.raises(UserError, match="each row should have a split, or none should"):
        Benchmark(make, preferences=[*rows[:4], *lines()[4:]]).prompts()
    with pytest.raises(UserError, match="1 different prompts are too few to be split"):
        Benchmark(make, preferences=lines()[:2]).prompts()


def test_it_can_do_what_it_was_given() -> None:
    prompts = [{"colour": "c0", "split": "test"}]
    scored = Benchmark(make, prompts=prompts, score=lambda answer: 1.0)
    preferred = Benchmark(make, preferences=lines())
    both = Benchmark(make, preferences=lines(), score=lambda answer: 1.0)
    assert [isinstance(each, Scored) for each in (scored, preferred, both)] == [True, False, True]
    assert [isinstance(each, HasPreferences) for each in (scored, preferred, both)] == [False, True, True]
    assert [each.offer for each in (scored, preferred, both)] == [Offer(True, 0), Offer(False, 1), Offer(True, 1)]
    for wrong in ({}, {"prompts": prompts}, {"prompts": prompts, "preferences": lines()}):
        with pytest.raises(UserError, match=r"^benchmark: it should have"):
            Benchmark(make, **wrong)


@pytest.mark.parametrize(
    ("row", "variables"),
    [
        ({"chosen": {"a": 1, "b": 2}, "rejected": {"a": 1, "b": 2}}, 2),
        ({"chosen": "x", "rejected": "y"}, 1),
        ({"completions": ["x", "y"], "best": 0}, 1),
        ({"completion": "x", "label": True}, 1),
        ({"answer": "x", "score": 1}, None),
    ],
)
def test_it_tells_without_the_system_how_much_its_rows_have(row: dict, variables: int | None, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "c0"} | row))
    assert Benchmark(make, preferences=path).offer == Benchmark(make, preferences=[row]).offer
    assert Benchmark(make, preferences=path).offer.variables == variables


def test_a_file_is_found_beside_the_system_or_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(lines()).to_json("here.jsonl", orient="records", lines=True)
    assert len(Benchmark(make, preferences="here.jsonl").prompts()) == 20
    (tmp_path / "folder").mkdir()
    code = "def make(): ...\nbenchmark = sysdpo.Benchmark(make, preferences='beside.jsonl')\n"
    (tmp_path / "folder/mine.py").write_text(f"import sysdpo\n{code}")
    (tmp_path / "folder/beside.jsonl").write_text("{}")
    assert local_data({"factory": "folder/mine.py:benchmark"}) == [tmp_path / "folder/beside.jsonl"]
    with pytest.raises(UserError, match=r"'nowhere.jsonl' should be a file or a folder; there is none"):
        _ = Benchmark(make, preferences="nowhere.jsonl").offer
