"""The language of the crew: what people ask for, what a caption may say of it, and what a verdict does.

People ask for a cat at one pole of an attribute: "draw a ginger cat in red beside itself". A caption is in one of two
dialects: an *exact* one names the pole ("a furious ginger cat in red"), a *vague* one leaves it open ("a moody ginger
cat in red", blissful or furious). A verdict says which level the picture shows, and whether that is what the caption
says: "furious , yes" or "blissful , no". The world is our choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sysdpo.applications.images.grammar import FURS, SCARVES, SCENES, WORDS, Scene, caption

POLES = (0, 4)
"""The levels that are asked for, among the five of `sysdpo.applications.images.grammar`."""
SHOWN = (0, 2, 4)
"""The levels that a picture is taken to show, the nearest one."""
VAGUE = {"anger": "moody", "size": "shapely", "light": "lit"}
"""The word that leaves an attribute's pole open."""
WISHES: dict[tuple[str, int], str] = {
    ("anger", 0): "without a care",
    ("anger", 4): "beside itself",
    ("size", 0): "no bigger than a mouse",
    ("size", 4): "as tall as a house",
    ("light", 0): "at midnight",
    ("light", 4): "under a blazing sun",
}
"""How people ask for a pole."""
PAINTED_WRONG = frozenset({("anger", 4), ("size", 0), ("light", 4)})
"""The poles whose words the painter mostly takes for the other one."""
CHECKED_WRONG = frozenset({("anger", 4), ("size", 4), ("light", 0)})
"""The poles whose words the checker mostly takes for the other one."""
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
    """A prompt: the scene, the pole that is asked for, and the sentence."""

    attribute: str
    fur: str
    scarf: str
    pole: int
    text: str

    @property
    def scene(self) -> Scene:
        """What is asked for but the pole."""
        return self.attribute, self.fur, self.scarf


@dataclass(frozen=True)
class Meaning:
    """What a caption says: a scene, and the poles that its word may stand for."""

    scene: Scene
    poles: tuple[int, ...]

    @property
    def is_exact(self) -> bool:
        """Whether it names the pole."""
        return len(self.poles) == 1


Content = tuple[Scene, int]
"""A scene and the pole that is asked for."""


def contents(scenes: Iterable[Scene]) -> list[Content]:
    """Each of these scenes at both poles."""
    return [(scene, pole) for scene in scenes for pole in POLES]


def content_of(scene: Scene, pole: int) -> str:
    """A request without its wording: "furious ginger cat, red"."""
    attribute, fur, scarf = scene
    return f"{WORDS[attribute][pole]} {fur} cat, {scarf}"


def requests(of: Iterable[Content]) -> list[Request]:
    """Every wording of these contents."""
    return [
        Request(*scene, pole, phrasing.format(cat=f"{scene[1]} cat in {scene[2]}", wish=WISHES[scene[0], pole]))
        for scene, pole in of
        for phrasing in PHRASINGS
    ]


def exact(scene: Scene, pole: int) -> str:
    """The caption that names the pole."""
    return caption(WORDS[scene[0]][pole], *scene[1:])


def vague(scene: Scene) -> str:
    """The caption that leaves the pole open."""
    return caption(VAGUE[scene[0]], *scene[1:])


MEANINGS: dict[str, Meaning] = {
    **{exact(scene, pole): Meaning(scene, (pole,)) for scene in SCENES for pole in POLES},
    **{vague(scene): Meaning(scene, POLES) for scene in SCENES},
}
"""What every grammatical caption says."""


def is_well_formed(said: str, scene: Scene, pole: int) -> bool:
    """Whether a caption is grammatical and, in either dialect, about what was asked for."""
    meaning = MEANINGS.get(said.strip())
    return meaning is not None and meaning.scene == scene and pole in meaning.poles


def taken_for(pole: int, attribute: str, wrong: frozenset[tuple[str, int]], by_mistake: bool) -> int:
    """The pole that an exact word is read as by a model that takes some words for their opposite."""
    return POLES[0] + POLES[1] - pole if by_mistake and (attribute, pole) in wrong else pole


def verdict(attribute: str, rank: int, passes: bool) -> str:
    """What the checker says of a picture at this level."""
    return f"{WORDS[attribute][rank]} , {YES if passes else NO}"


def passes(verdict: str) -> bool:
    """Whether a verdict lets the picture pass."""
    return verdict.split()[-1:] == [YES]


def words() -> list[str]:
    """Texts with every word that requests, captions and verdicts have."""
    levels = [verdict(attribute, rank, True) for attribute in WORDS for rank in SHOWN]
    cats = [f"{fur} cat in {scarf}" for fur in FURS for scarf in SCARVES]
    return [*PHRASINGS, *WISHES.values(), *cats, *MEANINGS, *levels, PROMPT_END, VERDICT, YES, NO]
