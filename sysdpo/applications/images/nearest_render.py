"""Reading attributes without training: those of the nearest rendered picture, by pixels."""

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image


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
