"""The requests for a series of pictures are many, all different, and English."""

import re
from collections import Counter

import pytest

from sysdpo.applications.images.attributes import (
    ATTRIBUTES,
    PHRASINGS,
    Attribute,
    doubled,
    request_words,
    requests,
    scorer_text,
)

REQUESTS = list(requests())
CAT = Attribute("anger", "calm", "calmer", "angry", "angrier", "cat")
CROWD = Attribute("crowd", "empty", "emptier", "crowded", "more crowded", "island")
NIGHT = Attribute(
    "night", "bright", "brighter", "dark", "darker", "beach", "{0} by day", "{0} by night", "the sky above {0}"
)


def test_there_are_thousands_over_many_attributes_subjects_and_phrasings() -> None:
    assert len(REQUESTS) >= 5000
    assert len(ATTRIBUTES) >= 20
    assert len(PHRASINGS) >= 5
    subjects = Counter(attribute for attribute, _ in {(request.attribute, request.subject) for request in REQUESTS})
    assert set(subjects) == {attribute.name for attribute in ATTRIBUTES}
    assert min(subjects.values()) >= 10


def test_no_two_are_the_same() -> None:
    assert len({request.text for request in REQUESTS}) == len(REQUESTS)
    assert len({attribute.name for attribute in ATTRIBUTES}) == len(ATTRIBUTES)


def test_every_subject_has_both_directions_in_every_phrasing() -> None:
    counts = Counter((request.attribute, request.subject) for request in REQUESTS)
    assert set(counts.values()) == {2 * len(PHRASINGS)}
    assert sum(request.direction for request in REQUESTS) == 0


@pytest.mark.parametrize(
    ("attribute", "subject", "direction", "number", "text"),
    [
        (CAT, "cat", 1, 0, "Draw a cat getting progressively angrier."),
        (CAT, "cat", -1, 0, "Draw a cat getting progressively calmer."),
        (CAT, "owl", 1, 1, "Show how an owl becomes angrier and angrier."),
        (CROWD, "island", 1, 1, "Show how an island becomes more and more crowded."),
        (CROWD, "island", -1, 4, "Illustrate an island going from crowded to empty, step by step."),
        (CROWD, "island", 1, 4, "Illustrate an island going from empty to crowded, step by step."),
        (NIGHT, "beach", 1, 5, "Paint the sky above a beach in three stages, each darker than the last."),
    ],
)
def test_sentences(attribute: Attribute, subject: str, direction: int, number: int, text: str) -> None:
    assert PHRASINGS[number].format(**request_words(attribute, subject, direction)) == text


def test_what_the_scorer_reads_does_not_depend_on_direction_or_phrasing() -> None:
    assert scorer_text(CAT, "cat", "low") == "a photo of a calm cat"
    assert scorer_text(CAT, "cat", "high") == "a photo of an angry cat"
    assert scorer_text(NIGHT, "beach", "high") == "a photo of a beach by night"
    texts = {(request.attribute, request.subject, request.low, request.high) for request in REQUESTS}
    assert len(texts) == len({(request.attribute, request.subject) for request in REQUESTS})
    assert all(request.low != request.high for request in REQUESTS)


def test_articles_fit_and_no_gap_is_left() -> None:
    for request in REQUESTS:
        for sentence in (request.text, request.low, request.high):
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|[{}]|  |\bmore \w+er\b", sentence), sentence
        assert request.text[0].isupper()
        assert request.text[-1] in ".?"


def test_comparatives_are_doubled() -> None:
    assert doubled("angrier") == "angrier and angrier"
    assert doubled("more richly decorated") == "more and more richly decorated"
