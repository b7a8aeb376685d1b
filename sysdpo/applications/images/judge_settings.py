"""Who sees in a picture how much of an attribute it shows: its settings, and what it can do."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from PIL.Image import Image

from sysdpo.base.settings import DTYPES, at_least, one_of

KINDS = ("clip", "regressor")


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
