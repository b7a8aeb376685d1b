"""The read-out that trains nothing."""

import numpy as np
import pytest
from PIL import Image

from sysdpo.applications.images.nearest_render import NearestRender
from sysdpo.applications.images.renderer import render


def test_a_render_is_its_own_nearest_at_distance_zero() -> None:
    attributes = np.random.default_rng(0).random((12, 3))
    renders = render(attributes, ["pink"] * 12, ["teal"] * 12)
    nearest, distance = NearestRender(renders, attributes).look_up([Image.fromarray(renders[row]) for row in (7, 2)])
    assert nearest.tolist() == attributes[[7, 2]].tolist()
    assert distance == pytest.approx([0.0, 0.0], abs=1e-3)


def test_the_distance_is_the_root_mean_square_over_pixels() -> None:
    renders = np.stack([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)])
    look_up = NearestRender(renders, np.array([[0.0], [1.0]]))
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 102  # 102/255 = 0.4 in one of four pixels: sqrt(0.16/4) = 0.2
    nearest, distance = look_up.look_up([Image.fromarray(image)])
    assert nearest.tolist() == [[0.0]]
    assert distance == pytest.approx([0.2], abs=1e-5)
    nearest, distance = look_up.look_up([Image.fromarray(np.full((2, 2, 3), 153, np.uint8))])
    assert nearest.tolist() == [[1.0]]
    assert distance == pytest.approx([0.4], abs=1e-5)  # 1 − 153/255
