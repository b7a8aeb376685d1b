"""What makes a series of three pictures a good one, and who sees in a picture how much of an attribute it shows."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from PIL.Image import Image

from sysdpo.settings import at_least, one_of

KINDS = ("clip", "regressor")
DTYPES = ("float32", "bfloat16", "float16")


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


@dataclass(frozen=True)
class ImageJudgeSettings:
    """Who sees an attribute in a picture.

    kind: `clip` (see `ClipDirection`) or `regressor` (see `ImageRegressor`). model: a hub id or folder; revision: of
    the hub id. batch_size: pictures, or texts, in a forward pass.
    """

    kind: str
    model: str
    revision: str | None = None
    batch_size: int = 32
    dtype: str = "float32"

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        one_of("dtype", self.dtype, DTYPES)
        at_least("batch_size", self.batch_size, 1)

    @property
    def attributes(self) -> tuple[str, ...] | None:
        """What a regressor in a local folder knows; None where any attribute will do, or the folder does not say."""
        config = folder_config(self.model) if self.kind == "regressor" else {}
        return tuple(config.get("attributes") or (config.get("id2label") or {}).values()) or None


def folder_config(model: str) -> dict[str, Any]:
    """The `config.json` of a local folder; empty where there is none."""
    try:
        return dict(json.loads((Path(model) / "config.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


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
        from sysdpo.scoring.clip_direction import ClipDirection

        judge: ImageJudge = ClipDirection(settings)
    else:
        from sysdpo.scoring.image_regressor import ImageRegressor

        judge = ImageRegressor(settings)
    try:
        yield judge
    finally:
        judge.free()
