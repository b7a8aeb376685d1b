"""What the page holds inside itself: figures and pictures as data URIs, and the libraries of its script."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from sysdpo.base.errors import UserError

PIXELS_PER_INCH = 110  # shows the figures' 9.5-point text at the size of the page's captions
VENDOR = Path(__file__).with_name("vendor")
UNQUOTED = " =:/;,()!*+@$[]{}|"  # what an SVG in a data URI may have as it is, within an attribute


class Picture(NamedTuple):
    """A figure on the page; `source` is a data URI, `width` its widest in CSS pixels."""

    title: str
    caption: str
    source: str
    width: int | None = None


def read_picture(stem: Path, title: str, caption: str) -> Picture | None:
    """The figure `stem.svg`, or else `stem.png`; None where neither is."""
    path = next((stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png") if _is_there(stem, kind)), None)
    if path is None:
        return None
    if path.suffix == ".png":
        return Picture(title, caption, data_uri(path.read_bytes(), "image/png"))
    try:
        content = path.read_text("utf-8")
    except ValueError as problem:
        raise UserError(f"'{path}' should be a figure in UTF-8; draw it again.") from problem
    points = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', content)
    width = round(float(points.group(1)) / 72 * PIXELS_PER_INCH) if points else None
    return Picture(title, caption, svg_uri(content), width)


def _is_there(stem: Path, kind: str) -> bool:
    return stem.with_name(f"{stem.name}.{kind}").is_file()


def data_uri(content: bytes, media: str) -> str:
    """The content as a data URI, so that the page needs no other file."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def picture_uri(content: bytes) -> str:
    """A PNG or a JPEG as a data URI."""
    return data_uri(content, "image/jpeg" if content.startswith(b"\xff\xd8") else "image/png")


def svg_uri(content: str) -> str:
    """A drawing as a data URI, its paths to a hundredth of a point: half the size, and no eye sees a difference."""
    short = re.sub(r'\bd="[^"]*"', lambda path: _short_path(path.group()), content)
    dense = re.sub(r">\s*\n\s*<", "><", short)
    return f"data:image/svg+xml,{quote(dense, safe=UNQUOTED)}"


def _short_path(path: str) -> str:
    rounded = re.sub(r"(\.\d\d)\d+", r"\1", path.removeprefix("d="))
    return "d=" + re.sub(r"\s*([A-Za-z])\s*", r"\1", rounded)


def vendored(name: str) -> Markup:
    """A library's script or style sheet, as it lies in `vendor`."""
    return Markup((VENDOR / name).read_text("utf-8"))


def script_data(value: Any) -> Markup:
    """JSON that may stand within a script element, whatever texts it has."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def own(name: str) -> Markup:
    """A file of this folder: the page's own script or style sheet."""
    return Markup(Path(__file__).with_name(name).read_text("utf-8"))
