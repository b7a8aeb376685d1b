"""Fitting the attribute regressor."""

from pathlib import Path

import numpy as np
from PIL import Image

from sysdpo.applications.images.grammar import ATTRIBUTES
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.regressor_fitting import make_regressor
from sysdpo.applications.images.settings import RegressorSettings
from sysdpo.applications.images.world import random_cats


def test_a_short_fit_already_tells_light_from_dark(tmp_path: Path) -> None:
    make_regressor(RegressorSettings(images=300, steps=60, size=32), 0, tmp_path / "regressor")
    regressor = AttributeRegressor.load(tmp_path / "regressor")
    images, truth = random_cats(200, 16, np.random.default_rng(5))
    light = regressor.score([Image.fromarray(image) for image in images])[:, ATTRIBUTES.index("light")]
    assert np.corrcoef(light, truth[:, ATTRIBUTES.index("light")])[0, 1] > 0.8
