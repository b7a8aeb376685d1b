"""Procedural cats."""

import itertools

import numpy as np
import pytest

from sysdpo.applications.images.grammar import ATTRIBUTES, FURS, SCARVES
from sysdpo.applications.images.renderer import render


def drawn(
    anger: float = 0.3, size: float = 0.6, light: float = 0.6, fur: str = "ginger", scarf: str = "red"
) -> np.ndarray:
    return render(np.array([[anger, size, light]]), [fur], [scarf])[0].astype(int)


def test_shapes_and_types() -> None:
    pictures = render(np.random.default_rng(0).random((20, 3)), ["grey"] * 20, ["red"] * 20, size=16)
    assert pictures.shape == (20, 16, 16, 3)
    assert pictures.dtype == np.uint8


def test_a_picture_depends_on_its_own_row_alone() -> None:
    attributes = np.random.default_rng(0).random((20, 3))
    furs = list(np.random.default_rng(1).choice(list(FURS), 20))
    scarves = list(np.random.default_rng(2).choice(list(SCARVES), 20))
    together = render(attributes, furs, scarves)
    assert all((render(attributes[[row]], [furs[row]], [scarves[row]])[0] == together[row]).all() for row in range(20))


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_each_step_of_an_attribute_changes_the_picture_and_larger_steps_more(attribute: str) -> None:
    pictures = [drawn(**{attribute: level}) for level in (0.05, 0.275, 0.5, 0.725, 0.95)]
    steps = [np.abs(after - before).mean() for before, after in itertools.pairwise(pictures)]
    assert min(steps) > 1
    assert np.abs(pictures[4] - pictures[0]).mean() > max(steps)


def test_light_is_brightness_size_is_the_cat_s_and_furs_differ() -> None:
    assert drawn(light=0.9).mean() > drawn(light=0.1).mean() + 30
    background = drawn(size=0.1)[0, 0]
    covered = [(np.abs(drawn(size=size) - background).max(-1) > 8).mean() for size in (0.1, 0.5, 0.9)]
    assert covered[0] < covered[1] < covered[2]
    colours = {fur: tuple(drawn(anger=0.0, fur=fur)[8, 16]) for fur in FURS}
    assert len(set(colours.values())) == len(FURS)
    scarves = {scarf: tuple(drawn(scarf=scarf)[29, 16]) for scarf in SCARVES}
    assert len(set(scarves.values())) == len(SCARVES)


@pytest.mark.parametrize(
    ("attributes", "furs", "scarves", "sentence"),
    [
        (np.zeros((2, 3)), ["grey"], ["red"], r"must have shape \(1, 3\)"),
        (np.zeros((1, 2)), ["grey"], ["red"], r"must have shape \(1, 3\)"),
        (np.full((1, 3), 1.5), ["grey"], ["red"], "must all lie in"),
        (np.full((1, 3), np.nan), ["grey"], ["red"], "must all lie in"),
        (np.zeros((1, 3)), ["plaid"], ["red"], "unknown fur 'plaid'"),
        (np.zeros((1, 3)), ["grey"], ["plaid"], "unknown scarf 'plaid'"),
        (np.zeros((1, 3)), ["grey"], [], "as many scarves as furs, 1, not 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    attributes: np.ndarray, furs: list[str], scarves: list[str], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        render(attributes, furs, scarves)
