"""Values that travel between nodes. Images are `PIL.Image.Image`, texts `str`, generated texts `Completion`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from PIL.Image import Image

from sysdpo.base.errors import UserError


@dataclass(frozen=True)
class Completion:
    """A generated text together with its token ids, which decoding and encoding again might change.

    text: without special tokens. tokens: as generated, end token included.
    """

    text: str
    tokens: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Interleaved:
    """Texts and images in the order of a node's template, for components that see images."""

    parts: tuple[str | Image, ...]

    def __str__(self) -> str:
        raise UserError(BLIND)


BLIND = "a picture cannot be read as a text; give the node a component that sees pictures, a VisionLanguageModel say"


def filled(template: str, values: Mapping[str, Any]) -> str | Interleaved:
    """A template filled in with these values by name: a text, or `Interleaved` if some of them are images."""
    if not any(isinstance(value, Image) for value in values.values()):
        return template.format(**values)
    parts: list[str | Image] = []
    for text, name, _, _ in Formatter().parse(template):
        parts += [text, *([values[name] if isinstance(values[name], Image) else str(values[name])] if name else [])]
    return Interleaved(tuple(parts))


def as_text(value: Any) -> str:
    """A value as a model reads it; raises `UserError` for a picture, whose text would be its address in memory."""
    if isinstance(value, Image):
        raise UserError(BLIND)
    return str(value)


def plain(value: Any) -> Any:
    """A generated text as plain text; any other value as it is."""
    return value.text if isinstance(value, Completion) else value


def picture_key(image: Image) -> bytes:
    """A digest that is equal for pictures of the same size and pixels."""
    content = image.convert("RGB")
    return hashlib.blake2b(f"{content.size}".encode() + content.tobytes(), digest_size=16).digest()
