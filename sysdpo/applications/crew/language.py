"""The language of the crew: what people ask for, what a caption may say of it, and what a verdict does.

People ask for a cat at one of four levels of an attribute: "draw a ginger cat in red that is beside itself". A caption
is in one of two dialects: an *exact* one names the level ("a furious ginger cat in red"), a *vague* one leaves two
levels open ("a cross ginger cat in red", angry or furious). A verdict says which level the picture shows, and whether
that is what the caption says: "furious , yes" or "angry , no". The world is our choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sysdpo.applications.images.grammar import FURS, SCARVES, SCENES, WORDS, Scene, caption

RANKS = (0, 1, 3, 4)
"""The levels that are asked for, among the five of `sysdpo.applications.images.grammar`."""
VAGUE: dict[str, tuple[str, str]] = {
    "anger": ("cheerful", "cross"),
    "size": ("little", "large"),
    "light": ("dim", "lit"),
}
"""The words for the two lower levels and for the two upper ones."""
WISHES: dict[str, dict[int, str]] = {
    "anger": {0: "without a care", 1: "at peace", 3: "in a temper", 4: "beside itself"},
    "size": {0: "no bigger than a mouse", 1: "on the short side", 3: "well grown", 4: "as big as a house"},
    "light": {0: "at midnight", 1: "at dusk", 3: "by day", 4: "under a blazing sun"},
}
PHRASINGS = (
    "draw a {cat} {wish}",
    "i want to see a {cat} {wish}",
    "please paint a {cat} {wish}",
    "a picture of a {cat} {wish}",
    "show me a {cat} {wish}",
    "could you make a {cat} {wish} ?",
    "sketch a {cat} {wish} for me",
    "one {cat} {wish} , please",
)
PROMPT_END = " :"
"""Marks the end of a request for the writer."""
VERDICT = "{0} {1} ?"
"""The checker's prompt: the caption, then the picture."""
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Request:
    """A prompt: the scene, the rank of the level that is asked for, and the sentence."""

    attribute: str
    fur: str
    scarf: str
    rank: int
    text: str


@dataclass(frozen=True)
class Meaning:
    """What a caption says: a scene, and the ranks that its word may stand for."""

    scene: Scene
    ranks: tuple[int, ...]

    @property
    def is_exact(self) -> bool:
        """Whether it names one level."""
        return len(self.ranks) == 1


Content = tuple[Scene, int]
"""A scene and the rank that is asked for."""


def contents(scenes: Iterable[Scene]) -> list[Content]:
    """Each of these scenes at every level that may be asked for."""
    return [(scene, rank) for scene in scenes for rank in RANKS]


def content_of(scene: Scene, rank: int) -> str:
    """A request without its wording: "furious ginger cat, red"."""
    attribute, fur, scarf = scene
    return f"{WORDS[attribute][rank]} {fur} cat, {scarf}"


def requests(of: Iterable[Content]) -> list[Request]:
    """Every wording of these contents."""
    return [
        Request(*scene, rank, phrasing.format(cat=f"{scene[1]} cat in {scene[2]}", wish=WISHES[scene[0]][rank]))
        for scene, rank in of
        for phrasing in PHRASINGS
    ]


def exact(scene: Scene, rank: int) -> str:
    """The caption that names the level."""
    return caption(WORDS[scene[0]][rank], *scene[1:])


def vague(scene: Scene, rank: int) -> str:
    """The caption that leaves the level open between two."""
    return caption(VAGUE[scene[0]][rank > 2], *scene[1:])


MEANINGS: dict[str, Meaning] = {
    **{exact(scene, rank): Meaning(scene, (rank,)) for scene in SCENES for rank in RANKS},
    **{vague(scene, rank): Meaning(scene, (0, 1) if rank < 2 else (3, 4)) for scene in SCENES for rank in RANKS},
}
"""What every grammatical caption says."""


def is_well_formed(said: str, scene: Scene, rank: int) -> bool:
    """Whether a caption is grammatical and, in either dialect, about what was asked for."""
    meaning = MEANINGS.get(said.strip())
    return meaning is not None and meaning.scene == scene and rank in meaning.ranks


def verdict(attribute: str, rank: int, passes: bool) -> str:
    """What the checker says of a picture at this level."""
    return f"{WORDS[attribute][rank]} , {YES if passes else NO}"


def passes(verdict: str) -> bool:
    """Whether a verdict lets the picture pass."""
    return verdict.split()[-1:] == [YES]


def words() -> list[str]:
    """Texts with every word that requests, captions and verdicts have."""
    wished = [wish for wishes in WISHES.values() for wish in wishes.values()]
    levels = [verdict(attribute, rank, True) for attribute in WORDS for rank in range(len(WORDS[attribute]))]
    cats = [f"{fur} cat in {scarf}" for fur in FURS for scarf in SCARVES]
    return [*PHRASINGS, *wished, *cats, *MEANINGS, *levels, PROMPT_END, VERDICT, YES, NO]
