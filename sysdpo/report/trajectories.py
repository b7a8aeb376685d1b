"""What every node of a system made for one prompt, by the variables' names, in the graph's order."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from sysdpo.base.errors import UserError
from sysdpo.method.preferences import JSON
from sysdpo.report.graph import Graph

SIDE = 256  # pixels; larger images are scaled down
PIXEL_ART = SIDE // 4  # pixels; images this small are kept as they are, every pixel to be seen


class Value(NamedTuple):
    """A variable's value: a text or a picture, or nothing where the picture is shown already."""

    variable: str
    text: str = ""
    picture: bytes | None = None
    is_shown: bool = False


def values_of(graph: Graph | None, row: pd.Series, shown: Collection[str] = ()) -> list[Value]:
    """The generated variables in a row of samples. shown: the pictures that the page shows beside them."""
    values = []
    for name in graph.names if graph else []:
        column = name if name in row.index else f"{name}{JSON}"
        if column not in row.index:
            continue  # an evaluation of an earlier version of the system
        value = row[column]
        if isinstance(value, bytes):
            values.append(Value(name, is_shown=True) if name in shown else Value(name, picture=shrunk(value, name)))
        else:
            values.append(Value(name, _as_text(value)))
    return values


def _as_text(value: object) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return "\n".join(map(_as_text, value))
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def shrunk(image: bytes, column: str) -> bytes:
    """The PNG with its longer side at most `SIDE`, as a JPEG: no browser opens a report full of large pictures."""
    try:
        opened = Image.open(io.BytesIO(image)).convert("RGB")
    except UnidentifiedImageError as problem:
        raise UserError(f"The column {column} holds bytes that are no PNG.") from problem
    if max(opened.size) <= PIXEL_ART:
        return image
    opened.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    opened.save(written, "JPEG", quality=85)
    return written.getvalue()
