"""The language of the cats."""

import pytest

from sysdpo.applications.images.grammar import (
    ATTRIBUTES,
    CAPTIONS,
    FURS,
    LEVELS,
    REQUESTS,
    SCARVES,
    SCENES,
    WORDS,
    Caption,
    caption,
    contents,
    is_well_formed,
    join,
    nth_caption,
    requests,
)


def test_every_caption_means_one_thing() -> None:
    assert len(CAPTIONS) == len(ATTRIBUTES) * len(LEVELS) * len(FURS) * len(SCARVES)
    assert CAPTIONS["a furious ginger cat in red"] == Caption("anger", 4, "ginger", "red")
    assert CAPTIONS["a dark grey cat in teal"] == Caption("light", 0, "grey", "teal")
    assert all(
        caption(WORDS[meaning.attribute][meaning.rank], meaning.fur, meaning.scarf) == text
        for text, meaning in CAPTIONS.items()
    )
    words = [*(word for words in WORDS.values() for word in words), *FURS, *SCARVES]
    assert len(set(words)) == len(words)


def test_levels_rise_with_the_rank_of_their_words() -> None:
    assert list(LEVELS) == sorted(LEVELS)
    assert all(len(WORDS[kind]) == len(LEVELS) for kind in ATTRIBUTES)


def test_requests_name_what_they_ask() -> None:
    everything = requests(contents(SCENES))
    assert len({request.text for request in everything}) == len(everything)
    for request in everything[::17]:
        assert {request.fur, request.scarf} <= set(request.text.split())
        assert REQUESTS[request.attribute, request.direction] in request.text.split()


GOOD = ["a calm ginger cat in red", "a stern ginger cat in red", "a furious ginger cat in red"]


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
        ([*GOOD[:2], "a furious grey cat in red"], False),
        ([*GOOD[:2], "a furious ginger cat in teal"], False),
        ([*GOOD[:2], "a tiny ginger cat in red"], False),
        ([*GOOD[:2], "a furious furious ginger cat in red"], False),
        ([*GOOD[:2], ""], False),
    ],
)
def test_form(captions: list[str], well_formed: bool) -> None:
    assert is_well_formed(join(captions), "anger", "ginger", "red") is well_formed
