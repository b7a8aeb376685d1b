"""What the question worlds share: the split into known and held out, and the draw of the prompts."""

import pytest

from sysdpo.applications.questions import draw_prompts, split
from sysdpo.base.errors import UserError

SIZES = {"train": 4, "validation": 2, "test": 3, "seed": 0}


@pytest.mark.parametrize("unseen", [0.1, 0.25, 0.9])
def test_the_split_is_a_partition_and_always_the_same(unseen: float) -> None:
    known, held_out = split(range(20), unseen)
    assert sorted(known + held_out) == list(range(20))
    assert len(held_out) == round(20 * unseen)
    assert split(range(20), unseen) == (known, held_out)


def about(subjects) -> list[tuple[int, int]]:
    """Three questions about each subject."""
    return [(subject, number) for subject in subjects for number in range(3)]


def row(item: tuple[int, int]) -> dict:
    return {"subject": item[0], "item": item}


def test_prompts_are_drawn_from_their_side_and_none_twice() -> None:
    table = draw_prompts(range(10), range(100, 110), about, row, **SIZES)
    assert list(table.columns) == ["prompt_id", "split", "subject", "item"]
    assert table["split"].value_counts().to_dict() == {"train": 4, "validation": 2, "test": 3}
    assert table["item"].is_unique
    assert table["prompt_id"].is_unique
    assert ((table["split"] == "train") == (table["subject"] < 100)).all()


def test_held_out_splits_share_no_subject_and_ask_about_each_before_one_again() -> None:
    table = draw_prompts(range(10), range(100, 105), about, row, train=4, validation=4, test=7, seed=0)
    counts = {name: rows["subject"].value_counts() for name, rows in table.groupby("split")}
    assert not set(counts["validation"].index) & set(counts["test"].index)
    assert sorted(counts["validation"]) == [2, 2]  # 5 · 4/11 is nearest to 2 subjects
    assert sorted(counts["test"]) == [2, 2, 3]


@pytest.mark.parametrize(
    ("sizes", "most"), [({"train": 31}, "train: 31 should be at most 30"), ({"test": 10}, "test: 10 .* 9")]
)
def test_too_many_prompts_are_refused(sizes: dict[str, int], most: str) -> None:
    with pytest.raises(UserError, match=rf"prompts\.{most}"):
        draw_prompts(range(10), range(4), about, row, **SIZES | sizes)
