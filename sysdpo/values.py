"""Values that travel between nodes. Images are `PIL.Image.Image`, texts `str`, generated texts `Completion`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Completion:
    """A generated text and its token ids, end token included: a text decoded and encoded again may differ."""

    text: str
    tokens: tuple[int, ...]

    def __str__(self) -> str:
        return self.text
