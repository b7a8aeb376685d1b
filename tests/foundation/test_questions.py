"""What the question worlds share: the split into known and held out, and the draw of the prompts."""

import pytest

from sysdpo.errors import UserError
from sysdpo.foundation.questions import QuestionSettings, draw_prompts, split

SIZES = {"train": 4, "validation": 2, "test": 3, "seed": 0}


@pytest.mark.parametrize("unseen", [0.1, 0.25, 0.9])
def test_the_split_is_a_partition_and_always_the_same(unseen: float) -> None:
    known, held_out = split(range(20), unseen)
    assert sorted(known + held_out) == list(range(20))
    assert len(held_out) == round(20 * unseen)
    assert split(range(20), unseen) == (known, held_out)


def test_prompts_are_drawn_from_their_side_and_none_twice() -> None:
    table = draw_prompts(range(10), range(100, 110), lambda item: {"item": item}, **SIZES)
    assert list(table.columns) == ["prompt_id", "split", "item"]
    assert table["split"].value_counts().to_dict() == {"train": 4, "validation": 2, "test": 3}
    assert table["item"].is_unique
    assert table["prompt_id"].is_unique
    assert ((table["split"] == "train") == (table["item"] < 100)).all()


def test_too_many_prompts_are_refused() -> None:
    with pytest.raises(UserError, match=r"prompts: .*'test': 3.* should add up to at most 4"):
        draw_prompts(range(10), range(4), lambda item: {"item": item}, **SIZES)


@pytest.mark.parametrize("unseen", [0.0, 1.0, -0.1])
def test_a_share_out_of_range_is_refused(unseen: float) -> None:
    with pytest.raises(UserError, match=rf"questions\.unseen: {unseen} should be above 0 and below 1"):
        QuestionSettings(unseen)
