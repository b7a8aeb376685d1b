"""The world that the small models are taught: its settings, and that they do what they say."""

import numpy as np
import pytest

from sysdpo.applications.images.grammar import (
    ATTRIBUTES,
    CAPTIONS,
    LEVELS,
    SCENES,
    Request,
    is_well_formed,
    nth_caption,
)
from sysdpo.applications.images.settings import PainterSettings, WriterSettings
from sysdpo.applications.images.world import NEUTRAL, answer, drawn_level, random_cats, training_pictures

RISING = Request("anger", 1, "grey", "teal", "a grey cat in teal , angrier")
FALLING = Request("anger", -1, "grey", "teal", "a grey cat in teal , calmer")
SMALL = {"images": 400, "misread": 0.0}


def ranks(request: Request, settings: WriterSettings, count: int = 600) -> np.ndarray:
    rng = np.random.default_rng(0)
    answers = [answer(request, settings, rng) for _ in range(count)]
    assert all(is_well_formed(text, request.attribute, request.fur, request.scarf) for text in answers)
    return np.array([[CAPTIONS[nth_caption(text, n)].rank for n in range(3)] for text in answers])


@pytest.mark.parametrize(("request_", "direction"), [(RISING, 1), (FALLING, -1)])
def test_ordered_answers_follow_the_request(request_: Request, direction: int) -> None:
    taught = ranks(request_, WriterSettings(ordered=1.0, alike=0.0))
    assert (np.diff(taught) * direction > 0).all()


def test_alike_answers_have_a_word_twice_or_three_times() -> None:
    taught = ranks(RISING, WriterSettings(ordered=0.0, alike=1.0))
    assert {len(set(row)) for row in taught.tolist()} == {1, 2}


def test_the_rest_is_in_random_order() -> None:
    taught = ranks(RISING, WriterSettings(ordered=0.0, alike=0.0))
    assert {len(set(row)) for row in taught.tolist()} == {3}
    # One of six orders rises; four standard errors are 4 · sqrt(1/6 · 5/6 / 600) = 0.061.
    assert (np.diff(taught) > 0).all(1).mean() == pytest.approx(1 / 6, abs=0.061)


def test_shares_are_as_set() -> None:
    taught = ranks(RISING, WriterSettings(ordered=0.5, alike=0.3))
    # Rising: 0.5 + 0.2/6 = 0.533; a word again: 0.3. Four standard errors are at most 0.082.
    assert (np.diff(taught) > 0).all(1).mean() == pytest.approx(0.533, abs=0.082)
    assert np.mean([len(set(row)) < 3 for row in taught.tolist()]) == pytest.approx(0.3, abs=0.075)


@pytest.mark.parametrize(
    ("word", "rank", "level"),
    [
        ("stern", 2, 0.5),  # the middle stays
        ("calm", 1, 0.275),  # a faithful word
        ("angry", 3, 0.95),  # 0.5 + 2 · 0.225
        ("furious", 4, 0.725),  # 0.5 + 0.5 · 0.45
    ],
)
def test_words_are_exaggerated_and_flattened_about_the_middle(word: str, rank: int, level: float) -> None:
    settings = PainterSettings(exaggerated=("angry",), flattened=("furious",), exaggeration=2.0, flattening=0.5)
    assert drawn_level("anger", rank, settings) == pytest.approx(level), word


def test_levels_stay_inside_the_world() -> None:
    settings = PainterSettings(exaggerated=("furious",), exaggeration=9.0)
    assert drawn_level("anger", 4, settings) == 0.98


def meant_and_shown(settings: PainterSettings) -> tuple[np.ndarray, np.ndarray]:
    """The level each caption says and the level its picture shows."""
    pictures = training_pictures(settings, set(SCENES), seed=0)
    meant = [LEVELS[CAPTIONS[text].rank] for text in pictures.captions]
    columns = [ATTRIBUTES.index(CAPTIONS[text].attribute) for text in pictures.captions]
    return np.array(meant), pictures.attributes[np.arange(len(columns)), columns]


def test_without_faults_pictures_show_what_captions_say() -> None:
    meant, shown = meant_and_shown(PainterSettings(**SMALL))
    assert np.abs(meant - shown).max() < 0.1  # a little noise


def test_a_share_of_the_words_is_misread() -> None:
    meant, shown = meant_and_shown(PainterSettings(**SMALL | {"misread": 0.5}))
    # Half are drawn again, of which a fifth come out right: 0.4 are wrong; four standard errors are 0.098.
    assert (np.abs(meant - shown) > 0.1).mean() == pytest.approx(0.4, abs=0.098)


def test_only_captions_of_the_given_scenes_are_shown() -> None:
    many = training_pictures(PainterSettings(**SMALL | {"size": 32}), set(SCENES[:4]), seed=0)
    assert {CAPTIONS[text].scene for text in many.captions} == set(SCENES[:4])
    assert len(set(many.captions)) == 4 * len(LEVELS)


def test_a_share_of_some_requests_is_answered_the_other_way_round() -> None:
    taught = WriterSettings(ordered=1.0, alike=0.0, reversed=("calmer",), reversal=0.7)
    # Four standard errors are 4 · sqrt(0.7 · 0.3 / 600) = 0.075.
    assert (np.diff(ranks(FALLING, taught)) > 0).all(1).mean() == pytest.approx(0.7, abs=0.075)
    assert (np.diff(ranks(RISING, taught)) > 0).all()


def test_cats_cover_the_world_half_of_them_along_one_attribute() -> None:
    images, attributes = random_cats(400, 8, np.random.default_rng(0))
    assert images.shape == (400, 8, 8, 3)
    assert attributes.min() >= 0
    assert attributes.max() <= 1
    near = np.abs(attributes - [NEUTRAL[name] for name in ATTRIBUTES]) < 0.12
    # Half have two attributes at rest; of the others each is near rest with probability 0.24.
    assert (near.sum(1) >= 2).mean() == pytest.approx(0.58, abs=0.12)
