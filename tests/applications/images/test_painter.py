"""What pretraining leaves of the painter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import PAINTER

from sysdpo.applications.images.grammar import SCENES
from sysdpo.applications.images.painter import make_painter, to_pixels
from sysdpo.applications.images.pipeline import SmallStableDiffusion3Pipeline


def test_pixels_are_in_range() -> None:
    pixels = to_pixels(np.array([[[[0, 255, 51]]]], dtype=np.uint8))
    assert pixels.shape == (1, 3, 1, 1)
    assert pixels.flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])


def test_the_same_seed_makes_the_same_painter(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        make_painter(PAINTER, set(SCENES), seed, tmp_path / name)
    states = [
        SmallStableDiffusion3Pipeline.from_pretrained(tmp_path / name).transformer.state_dict()
        for name in ("one", "two", "three")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])
