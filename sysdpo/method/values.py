"""Values that travel between nodes. Images are `PIL.Image.Image`, texts `str`, generated texts `Completion`."""

import hashlib
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image


@dataclass(frozen=True)
class Completion:
    """A generated text together with its token ids, which decoding and encoding again might change.

    text: without special tokens. tokens: as generated, end token included.
    """

    text: str
    tokens: tuple[int, ...]

    def __str__(self) -> str:
        return self.text


def plain(value: Any) -> Any:
    """A generated text as plain text; any other value as it is."""
    return value.text if isinstance(value, Completion) else value


def picture_key(image: Image) -> bytes:
    """A digest that is equal for pictures of the same size and pixels."""
    content = image.convert("RGB")
    return hashlib.blake2b(f"{content.size}".encode() + content.tobytes(), digest_size=16).digest()
