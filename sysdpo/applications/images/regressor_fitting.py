"""Fitting the attribute regressor on rendered cats."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sysdpo.applications.fitting import fit
from sysdpo.applications.images.grammar import ATTRIBUTES
from sysdpo.applications.images.nearest_render import RENDERS, renders
from sysdpo.applications.images.regressor import AttributeRegressor, to_pixels
from sysdpo.applications.images.settings import RegressorSettings
from sysdpo.applications.images.world import random_cats
from sysdpo.base.seeds import numpy_generator, seed_torch


def make_judges(settings: RegressorSettings, size: int, seed: int, folder: Path) -> None:
    """Fit the regressor and save it to `folder`, with the renders of this size that the second judge looks up."""
    make_regressor(settings, seed, folder)
    images, attributes = renders(size)
    np.savez(folder / RENDERS, images=images, attributes=attributes)


def make_regressor(settings: RegressorSettings, seed: int, folder: Path) -> None:
    """Fit the regressor and save it to `folder`."""
    seed_torch("regressor", seed)
    rng = numpy_generator("regressor", seed)
    images, attributes = random_cats(settings.images, settings.size, rng)
    pixels, targets = to_pixels(images), torch.from_numpy(attributes).float()
    regressor = AttributeRegressor(ATTRIBUTES)

    def loss(step: int) -> Tensor:
        rows = torch.from_numpy(rng.integers(len(pixels), size=settings.batch_size))
        clean = pixels[rows]
        return ((regressor(as_if_generated(clean, 0.15)) - targets[rows]) ** 2).mean()

    fit("regressor", regressor, loss, steps=settings.steps, learning_rate=settings.learning_rate, average=0.99)
    regressor.save(folder)


def as_if_generated(clean: Tensor, noise: float) -> Tensor:
    """Pixels `[n, 3, H, W]` blurred and noisy, as generated pictures are a little and renders are not.

    noise: the most standard deviation. What is drawn comes from torch's global generator.
    """
    soft = avg_pool2d(clean, 3, stride=1, padding=1, count_include_pad=False)
    blend = torch.rand(len(clean), 1, 1, 1) * 0.7
    return clean.lerp(soft, blend) + torch.randn_like(clean) * torch.rand(len(clean), 1, 1, 1) * noise
