"""Reading attributes without training: those of the nearest rendered picture, by pixels."""

import zipfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from PIL.Image import Image

from sysdpo.applications.images.grammar import ATTRIBUTES, FURS, SCARVES
from sysdpo.applications.images.renderer import render
from sysdpo.applications.images.world import NEUTRAL
from sysdpo.base.errors import UserError

RENDERS = "renders.npz"


class NearestRender:
    """Finds the nearest rendered picture; uses no model, and the distance also measures picture quality.

    renders: uint8 `[m, H, W, 3]`; attributes: `[m, attributes]`.
    """

    def __init__(self, renders: np.ndarray, attributes: np.ndarray):
        self.renders = renders.reshape(len(renders), -1).astype(np.float32) / 255
        self.attributes = attributes
        self.squares = (self.renders**2).sum(1)

    def look_up(self, images: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
        """Attributes `[n, attributes]` of the nearest renders, and RMS distances `[n]` to them (pixels in [0, 1])."""
        pixels = np.stack([np.asarray(image.convert("RGB")) for image in images]).reshape(len(images), -1)
        pixels = pixels.astype(np.float32) / 255
        squared = (pixels**2).sum(1)[:, None] + self.squares[None] - 2 * pixels @ self.renders.T
        nearest = squared.argmin(1)
        distance = np.sqrt(np.maximum(squared[np.arange(len(images)), nearest], 0) / pixels.shape[1])
        return self.attributes[nearest], distance


def nearest_render(foundation: Path) -> NearestRender:
    """The look-up of the nearest render, from the renders saved with the regressor."""
    file = foundation / "regressor" / RENDERS
    try:
        with np.load(file) as saved:
            return NearestRender(saved["images"], saved["attributes"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"renders: '{file}' should be there as the regressor's step writes it ({error})") from error


def renders(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cats along each attribute in steps of 1/30, in every fur and scarf: uint8 `[m, size, size, 3]`, and attributes
    `[m, 3]`.
    """
    cats, grid = list(product(FURS, SCARVES)), np.linspace(0, 1, 31)
    attributes = np.tile([NEUTRAL[kind] for kind in ATTRIBUTES], (len(ATTRIBUTES), len(grid), len(cats), 1))
    for column in range(len(ATTRIBUTES)):
        attributes[column, :, :, column] = grid[:, None]
    attributes = attributes.reshape(-1, len(ATTRIBUTES))
    furs, scarves = ([*names] * (len(attributes) // len(cats)) for names in zip(*cats, strict=True))
    return render(attributes, furs, scarves, size=size), attributes
