"""A convolutional regressor of a picture's attributes."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sysdpo.applications.pretrained import in_batches
from sysdpo.base import numerics
from sysdpo.base.errors import UserError
from sysdpo.method.values import picture_key

numerics.use_kernels()


class AttributeRegressor(nn.Module):
    """Pictures `[n, 3, H, W]` in [-1, 1] to attributes `[n, attributes]` in [0, 1]."""

    def __init__(self, attributes: Sequence[str], width: int = 24):
        super().__init__()
        self.attributes = tuple(attributes)
        self.width = width
        channels = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(16 * channels[-1], 64), nn.SiLU(), nn.Linear(64, len(self.attributes)))

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        return self.head(self.body(pixels))

    def score(self, images: Sequence[Image], batch_size: int = 512) -> np.ndarray:
        """The attributes of PIL images: float32 `[n, attributes]`."""
        return in_batches(self._score_batch, images, batch_size, key=picture_key).numpy()

    def _score_batch(self, images: Sequence[Image]) -> Tensor:
        batch = np.stack([np.asarray(image.convert("RGB")) for image in images])
        return self(to_pixels(batch).to(next(self.parameters()).device))

    def save(self, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"attributes": self.attributes, "width": self.width}))

    @classmethod
    def load(cls, folder: Path) -> "AttributeRegressor":
        """Load what `save` wrote; raises `UserError` if the folder contains no regressor."""
        try:
            regressor = cls(**json.loads((folder / "config.json").read_text()))
            regressor.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"regressor: '{folder}' should be a folder with config.json and model.safetensors ({error})"
            ) from error
        return regressor.eval()


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 `[n, H, W, 3]` to float `[n, 3, H, W]` in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
