"""Fitting the attribute regressor on rendered cats."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sysdpo.foundation.fitting import fit
from sysdpo.foundation.painter import NEUTRAL, to_pixels
from sysdpo.foundation.renderer import ATTRIBUTES, FURS, render
from sysdpo.scoring.regressor import AttributeRegressor


@dataclass(frozen=True)
class RegressorSettings:
    """How the regressor is fitted."""

    images: int = 6000
    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 2e-3
    size: int = 32


def random_cats(count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rendered cats uint8 `[n, size, size, 3]` and attributes `[n, 3]`: half uniform, half along one attribute."""
    attributes = rng.random((count, len(ATTRIBUTES)))
    neutral = np.clip([NEUTRAL[name] for name in ATTRIBUTES] + rng.normal(0, 0.03, attributes.shape), 0, 1)
    along = np.eye(len(ATTRIBUTES), dtype=bool)[rng.integers(len(ATTRIBUTES), size=count)]
    single = rng.random(count) < 0.5
    attributes = np.where(single[:, None] & ~along, neutral, attributes)
    furs = list(rng.choice(list(FURS), count))
    return render(attributes, furs, size=size), attributes


def make_regressor(settings: RegressorSettings, seed: int, folder: Path) -> None:
    """Fit the regressor and save it to `folder`."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    images, attributes = random_cats(settings.images, settings.size, rng)
    pixels, targets = to_pixels(images), torch.from_numpy(attributes).float()
    regressor = AttributeRegressor(ATTRIBUTES)

    def loss(step: int) -> Tensor:
        rows = torch.from_numpy(rng.integers(len(pixels), size=settings.batch_size))
        clean = pixels[rows]
        # Generated pictures are a little soft and noisy; renders are neither.
        soft = avg_pool2d(clean, 3, stride=1, padding=1, count_include_pad=False)
        blend = torch.rand(len(rows), 1, 1, 1) * 0.7
        noisy = clean.lerp(soft, blend) + torch.randn_like(clean) * torch.rand(len(rows), 1, 1, 1) * 0.15
        return ((regressor(noisy) - targets[rows]) ** 2).mean()

    fit("regressor", regressor, loss, steps=settings.steps, learning_rate=settings.learning_rate, average=0.99)
    regressor.save(folder)
