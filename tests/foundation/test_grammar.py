"""The language of the cats."""

import pytest

from sysdpo.foundation.grammar import (
    CAPTIONS,
    LEVELS,
    REQUESTS,
    WORDS,
    caption,
    is_well_formed,
    join,
    nth_caption,
    requests,
)
from sysdpo.foundation.renderer import ATTRIBUTES, FURS


def test_every_caption_means_one_thing() -> None:
    assert len(CAPTIONS) == len(ATTRIBUTES) * len(LEVELS) * len(FURS)
    assert CAPTIONS["a furious ginger cat"] == ("anger", 4, "ginger")
    assert CAPTIONS["a grey cat in darkness"] == ("light", 0, "grey")
    assert all(caption(kind, WORDS[kind][rank], fur) == text for text, (kind, rank, fur) in CAPTIONS.items())


def test_levels_rise_with_the_rank_of_their_words() -> None:
    assert list(LEVELS) == sorted(LEVELS)
    assert all(len(WORDS[kind]) == len(LEVELS) for kind in ATTRIBUTES)


def test_requests_name_what_they_ask() -> None:
    texts = {request.text for request in requests()}
    assert len(texts) == len(requests())
    for request in requests():
        assert request.fur in request.text.split()
        assert REQUESTS[request.attribute, request.direction] in request.text.split()


GOOD = ["a calm ginger cat", "a stern ginger cat", "a furious ginger cat"]


def test_captions_are_taken_apart_as_they_were_joined() -> None:
    answer = join(GOOD)
    assert [nth_caption(answer, index) for index in range(3)] == GOOD
    assert nth_caption(answer, 3) == ""
    assert nth_caption("", 0) == ""
    assert nth_caption("a cat;a dog", 1) == "a dog"


@pytest.mark.parametrize(
    ("captions", "well_formed"),
    [
        (GOOD, True),
        (GOOD[::-1], True),  # the order is no matter of form
        ([GOOD[0]] * 3, True),
        (GOOD[:2], False),
        ([*GOOD, GOOD[0]], False),
        ([*GOOD[:2], "a furious grey cat"], False),
        ([*GOOD[:2], "a tiny ginger cat"], False),
        ([*GOOD[:2], "a furious furious ginger cat"], False),
        ([*GOOD[:2], ""], False),
    ],
)
def test_form(captions: list[str], well_formed: bool) -> None:
    assert is_well_formed(join(captions), "anger", "ginger") is well_formed
