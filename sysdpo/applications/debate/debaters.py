"""Pretraining the two debaters: each tells what it knows, replies to the other's opening, and closes.

Each is imperfect on purpose in what only the other's change can make good: see `DebaterSettings`.
"""

from pathlib import Path

import numpy as np

from sysdpo.applications.debate.language import (
    CLOSING,
    LARGEST,
    OPEN,
    OPENING,
    REPLY,
    SEPARATOR,
    TOLD,
    Question,
    opening,
    reply,
    tells_sign,
)
from sysdpo.applications.debate.settings import DebaterSettings
from sysdpo.applications.small_llama import make_small_llama
from sysdpo.base.seeds import numpy_generator

WORDS = [*TOLD.values(), OPEN, SEPARATOR, OPENING, REPLY.format("", ""), CLOSING, *map(str, range(LARGEST + 1))]


def make_debater(settings: DebaterSettings, side: str, known: list[Question], seed: int, folder: Path) -> None:
    """Pretrain the debater of a side on `known` questions; save it to `folder`."""
    rng = numpy_generator(side, seed)
    words = [*(getattr(question, side) for question in known), *WORDS]
    pairs = [
        pair
        for index in rng.integers(len(known), size=settings.examples // 3)
        for pair in taught(known[index], side, settings, rng)
    ]
    make_small_llama(side, settings, words, pairs, seed, rng, folder)


def taught(question: Question, side: str, settings: DebaterSettings, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Prompt and completion of an opening, of a reply to an opening of the other side, and of a closing."""
    case, knows = question.case, getattr(question, side)
    heard = opening(case, "right" if side == "left" else "left", tells=bool(rng.random() < 0.5))
    own = reply(case, side, taught_reading(heard, settings, rng))
    other = reply(case, "right" if side == "left" else "left", int(rng.choice((1, -1))))
    kept = own if rng.random() < settings.trust else other
    return [
        (OPENING.format(knows), opening(case, side, tells=bool(rng.random() < settings.tells))),
        (REPLY.format(knows, heard), own),
        (CLOSING.format(own, other), kept),
    ]


def taught_reading(heard: str, settings: DebaterSettings, rng: np.random.Generator) -> int:
    """The sign that a debater takes an opening's change to have: by chance where it is open, often wrong for "down"."""
    if not tells_sign(heard):
        return int(rng.choice((1, -1)))
    return 1 if TOLD[1] in heard.split() or rng.random() < settings.misread else -1
