"""What makes a series of three pictures a good one, and who sees in a picture how much of an attribute it shows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pandas as pd
from PIL.Image import Image

from sysdpo.applications.images.settings import ImageJudgeSettings


def preference_score(rising: np.ndarray) -> np.ndarray:
    """`q = [a(z3) − a(z1)] − |a(z2) − (a(z1) + a(z3))/2|` for `[n, 3]` attributes; our choice (design of the score)."""
    first, second, third = rising.T
    return (third - first) - np.abs(second - (first + third) / 2)


def is_ordered(rising: np.ndarray) -> np.ndarray:
    """Order Consistency: 1.0 where `a(z1) < a(z2) < a(z3)`, else 0.0, for `[n, 3]` attributes."""
    return ((rising[:, 0] < rising[:, 1]) & (rising[:, 1] < rising[:, 2])).astype(float)


def as_rise(values: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Attributes `[n, 3]` turned so that what was asked for, a rise where the direction `[n]` is above 0, is a rise."""
    return np.where(directions[:, None] > 0, values, 1 - values)


class ImageJudge(Protocol):
    """Sees in a picture how much of an attribute it shows."""

    def attribute(self, images: Sequence[Image], asked: pd.DataFrame) -> np.ndarray:
        """How much of what its row of `asked` (columns `attribute, low, high`) names each picture shows: `[n]`, rising
        from 0 for `low` to 1 for `high`.
        """
        ...

    def free(self) -> None:
        """Give its memory back; it is of no use afterwards."""
        ...


@contextmanager
def image_judge(settings: ImageJudgeSettings) -> Iterator[Any]:
    """The `ImageJudge` of these settings, on the GPU where there is one; its memory is given back afterwards.

    Raises `UserError` if the model cannot be loaded or is of another kind.
    """
    # The model libraries take seconds to import, so only the steps that need a model do.
    if settings.kind == "clip":
        from sysdpo.applications.images.clip_direction import ClipDirection

        judge: ImageJudge = ClipDirection(settings)
    else:
        from sysdpo.applications.images.image_regressor import ImageRegressor

        judge = ImageRegressor(settings)
    try:
        yield judge
    finally:
        judge.free()
