"""The language of the cats: requests, captions, and the attribute levels that words stand for."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

ATTRIBUTES = ("anger", "size", "light")

FURS: dict[str, tuple[float, float, float]] = {
    "ginger": (0.98, 0.56, 0.13),
    "grey": (0.60, 0.61, 0.64),
    "cream": (1.00, 0.90, 0.68),
    "blue": (0.28, 0.52, 0.95),
    "brown": (0.55, 0.35, 0.20),
    "pink": (1.00, 0.60, 0.76),
    "lilac": (0.68, 0.50, 0.95),
    "green": (0.45, 0.78, 0.36),
}

SCARVES: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.14),
    "navy": (0.08, 0.12, 0.42),
    "white": (0.97, 0.97, 0.97),
    "black": (0.08, 0.08, 0.09),
    "teal": (0.00, 0.52, 0.52),
    "yellow": (0.98, 0.86, 0.12),
    "orange": (0.96, 0.42, 0.02),
    "violet": (0.46, 0.12, 0.66),
    "olive": (0.44, 0.46, 0.08),
    "azure": (0.30, 0.74, 1.00),
    "maroon": (0.44, 0.04, 0.12),
    "mint": (0.62, 0.98, 0.78),
    "coral": (1.00, 0.46, 0.38),
    "magenta": (0.88, 0.08, 0.62),
}

WORDS: dict[str, tuple[str, ...]] = {
    "anger": ("blissful", "calm", "stern", "angry", "furious"),
    "size": ("tiny", "small", "medium", "big", "huge"),
    "light": ("dark", "gloomy", "shady", "bright", "sunny"),
}
LEVELS = (0.05, 0.275, 0.5, 0.725, 0.95)
"""The attribute value that each of an attribute's five words stands for."""

REQUESTS: dict[tuple[str, int], str] = {
    ("anger", 1): "angrier",
    ("anger", -1): "calmer",
    ("size", 1): "bigger",
    ("size", -1): "smaller",
    ("light", 1): "brighter",
    ("light", -1): "darker",
}

PHRASINGS = (
    "draw a {cat} getting progressively {more}",
    "show a {cat} becoming {more} and {more}",
    "three pictures of a {cat} , each {more} than the last",
    "paint a {cat} that grows {more} step by step",
    "a {cat} turning {more} over time , in three images",
    "illustrate how a {cat} gets {more}",
    "please sketch a {cat} , {more} every time",
    "i want a {cat} that keeps getting {more}",
    "make a small story in which a {cat} becomes {more}",
    "a sequence of one {cat} , ever {more}",
    "picture a {cat} growing slowly {more}",
    "can you draw a {cat} , first plain and then {more} ?",
    "three views of a {cat} , {more} from left to right",
    "let a {cat} grow {more} before my eyes",
    "a short comic : a {cat} gets {more}",
    "how would a {cat} look if it became {more} ?",
)

SEPARATOR = " ; "

PROMPT_END = " :"
"""Marks the end of a request for the small writer."""


@dataclass(frozen=True)
class Request:
    """A prompt: the attribute, its direction (1 rising, -1 falling), the cat's fur and scarf, and the sentence."""

    attribute: str
    direction: int
    fur: str
    scarf: str
    text: str


@dataclass(frozen=True)
class Caption:
    """The meaning of a caption: an attribute, the rank of its word among the five, a fur and a scarf."""

    attribute: str
    rank: int
    fur: str
    scarf: str

    @property
    def scene(self) -> "Scene":
        """The caption without its level."""
        return self.attribute, self.fur, self.scarf


Scene = tuple[str, str, str]
"""An attribute, a fur and a scarf."""

SCENES: list[Scene] = list(product(ATTRIBUTES, FURS, SCARVES))


def content_of(scene: Scene, direction: int) -> str:
    """A request without its wording: "ginger, red: angrier"."""
    attribute, fur, scarf = scene
    return f"{fur}, {scarf}: {REQUESTS[attribute, direction]}"


def contents(scenes: Iterable[Scene]) -> list[tuple[Scene, int]]:
    """Each of these scenes, rising and falling."""
    return [(scene, direction) for scene in scenes for direction in (1, -1)]


def requests(of: Iterable[tuple[Scene, int]]) -> list[Request]:
    """Every wording of these contents."""
    return [
        Request(attribute, direction, fur, scarf, phrasing.format(cat=f"{fur} cat in {scarf}", more=more))
        for (attribute, fur, scarf), direction in of
        for more in [REQUESTS[attribute, direction]]
        for phrasing in PHRASINGS
    ]


def caption(word: str, fur: str, scarf: str) -> str:
    """The caption of a cat of this fur, in this scarf, at this word's level."""
    return f"a {word} {fur} cat in {scarf}"


CAPTIONS: dict[str, Caption] = {
    caption(word, fur, scarf): Caption(attribute, rank, fur, scarf)
    for attribute, fur, scarf in SCENES
    for rank, word in enumerate(WORDS[attribute])
}
"""The meaning of every grammatical caption."""


def join(captions: list[str]) -> str:
    """The writer's answer with these captions."""
    return SEPARATOR.join(captions)


def nth_caption(answer: str, index: int) -> str:
    """The caption at `index` of a writer's answer, or an empty string."""
    captions = answer.split(SEPARATOR.strip())
    return captions[index].strip() if index < len(captions) else ""


def is_well_formed(answer: str, attribute: str, fur: str, scarf: str) -> bool:
    """Whether an answer consists of three grammatical captions with this attribute, fur and scarf."""
    captions = [CAPTIONS.get(text.strip()) for text in answer.split(SEPARATOR.strip())]
    return len(captions) == 3 and all(c is not None and c.scene == (attribute, fur, scarf) for c in captions)
