"""The language of the cats: what may be asked, the captions that may answer, and the words' levels."""

from dataclasses import dataclass
from itertools import product

from sysdpo.foundation.renderer import ATTRIBUTES, FURS

WORDS: dict[str, tuple[str, ...]] = {
    "anger": ("blissful", "calm", "stern", "angry", "furious"),
    "size": ("tiny", "small", "medium", "big", "huge"),
    "light": ("darkness", "gloom", "shade", "daylight", "sunshine"),
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
    "draw a {fur} cat getting progressively {more}",
    "show a {fur} cat becoming {more} and {more}",
    "three pictures of a {fur} cat , each {more} than the last",
    "paint a {fur} cat that grows {more} step by step",
    "a {fur} cat turning {more} over time , in three images",
    "illustrate how a {fur} cat gets {more}",
    "please sketch a {fur} cat , {more} every time",
    "i want a {fur} cat that keeps getting {more}",
    "make a small story in which a {fur} cat becomes {more}",
    "a sequence of one {fur} cat , ever {more}",
    "picture a {fur} cat growing slowly {more}",
    "can you draw a {fur} cat , first plain and then {more} ?",
    "three views of a {fur} cat , {more} from left to right",
    "let a {fur} cat grow {more} before my eyes",
    "a short comic : a {fur} cat gets {more}",
    "how would a {fur} cat look if it became {more} ?",
)

SEPARATOR = " ; "

PROMPT_END = " :"
"""What the small writer reads as the end of a request."""


@dataclass(frozen=True)
class Request:
    """What a prompt asks: an attribute, its direction (1 rising, -1 falling), a fur, and the sentence itself."""

    attribute: str
    direction: int
    fur: str
    text: str


def requests() -> list[Request]:
    """Every prompt of this world."""
    return [
        Request(attribute, direction, fur, phrasing.format(fur=fur, more=more))
        for ((attribute, direction), more), fur, phrasing in product(REQUESTS.items(), FURS, PHRASINGS)
    ]


def caption(attribute: str, word: str, fur: str) -> str:
    """The one sentence for a cat of this fur at this word's level."""
    return f"a {fur} cat in {word}" if attribute == "light" else f"a {word} {fur} cat"


CAPTIONS: dict[str, tuple[str, int, str]] = {
    caption(attribute, word, fur): (attribute, rank, fur)
    for attribute in ATTRIBUTES
    for rank, word in enumerate(WORDS[attribute])
    for fur in FURS
}
"""Every grammatical caption, and the (attribute, rank of the word, fur) it stands for."""


def join(captions: list[str]) -> str:
    """The writer's answer that holds these captions."""
    return SEPARATOR.join(captions)


def nth_caption(answer: str, index: int) -> str:
    """The caption at `index` of a writer's answer, or an empty one if there is none."""
    captions = answer.split(SEPARATOR.strip())
    return captions[index].strip() if index < len(captions) else ""


def is_well_formed(answer: str, attribute: str, fur: str) -> bool:
    """Whether an answer is three grammatical captions of the asked fur and attribute."""
    parts = [CAPTIONS.get(part.strip(), (None, None, None)) for part in answer.split(SEPARATOR.strip())]
    return len(parts) == 3 and all((part[0], part[2]) == (attribute, fur) for part in parts)
