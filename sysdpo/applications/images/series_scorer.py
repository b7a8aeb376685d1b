"""The score of a series of three pictures, and the judges that measure an attribute in a picture."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import pandas as pd
from PIL.Image import Image

from sysdpo.applications.images.settings import ImageJudgeSettings


def preference_score(rising: np.ndarray) -> np.ndarray:
    """`q = [a(z3) − a(z1)] − |a(z2) − (a(z1) + a(z3))/2|` for `[n, 3]` attributes; our choice."""
    first, second, third = rising.T
    return (third - first) - np.abs(second - (first + third) / 2)


def is_ordered(rising: np.ndarray) -> np.ndarray:
    """Order Consistency: 1.0 where `a(z1) < a(z2) < a(z3)`, else 0.0, for `[n, 3]` attributes."""
    return ((rising[:, 0] < rising[:, 1]) & (rising[:, 1] < rising[:, 2])).astype(float)


def as_rise(values: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Attributes `[n, 3]`, reflected where the direction `[n]` is negative, so that prompts always ask for a rise."""
    return np.where(directions[:, None] > 0, values, 1 - values)


class ImageJudge(Protocol):
    """Measures an attribute in pictures."""

    def attribute(self, images: Sequence[Image], prompts: pd.DataFrame) -> np.ndarray:
        """The attribute of each picture that its row of `prompts` (columns `attribute, low, high`) names: `[n]`, from 0
        for `low` to 1 for `high`.
        """
        ...

    def close(self) -> None:
        """Free the memory; the judge cannot be used afterwards."""
        ...


def image_judge(settings: ImageJudgeSettings) -> closing[Any]:
    """A context with the `ImageJudge` of these settings, on the GPU if there is one, whose memory is freed at its end.

    Raises `UserError` if the model cannot be loaded or is of another kind.
    """
    # The model libraries take seconds to import, so only the steps that need a model do.
    if settings.kind == "clip":
        from sysdpo.applications.images.clip_direction import ClipDirection

        judge: ImageJudge = ClipDirection(settings)
    else:
        from sysdpo.applications.images.image_regressor import ImageRegressor

        judge = ImageRegressor(settings)
    return closing(judge)
