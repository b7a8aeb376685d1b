"""Pretraining the two models of the sums: one writes a question's steps, the other computes the totals.

Each has deliberate flaws that only a change of the other can make up for: see `FirstSettings` and `SecondSettings`.
"""

from pathlib import Path

import numpy as np

from sysdpo.applications.answers.settings import FirstSettings, SecondSettings
from sysdpo.applications.answers.sums_language import (
    CARELESS,
    FIRST_TEMPLATE,
    LARGEST,
    OPEN,
    SECOND_TEMPLATE,
    SEPARATOR,
    SIGNS,
    Question,
    answer,
    dialect_of,
    draft,
    readings,
)
from sysdpo.applications.small_llama import make_small_llama
from sysdpo.base.seeds import numpy_generator

STEP_WORDS = [*(word for signs in SIGNS.values() for word in signs.values()), OPEN, *map(str, range(LARGEST + 1))]


def make_first(settings: FirstSettings, known: list[Question], seed: int, folder: Path) -> None:
    """Pretrain the model that writes the steps of `known` questions; save it to `folder`."""
    rng = numpy_generator("first", seed)
    words = [*(question.text for question in known), *STEP_WORDS, FIRST_TEMPLATE.format("")]
    sample = [known[index] for index in rng.integers(len(known), size=settings.examples)]
    pairs = [(FIRST_TEMPLATE.format(question.text), taught_draft(question, settings, rng)) for question in sample]
    make_small_llama("first", settings, words, pairs, seed, rng, folder)


def make_second(settings: SecondSettings, known: list[Question], seed: int, folder: Path) -> None:
    """Pretrain the model that computes the totals from drafts of `known` questions; save it to `folder`.

    Its vocabulary has only numbers and the drafts' words, so it cannot read a sign in the question.
    """
    rng = numpy_generator("second", seed)
    words = [*STEP_WORDS, SEPARATOR, SECOND_TEMPLATE.format("", "")]
    drafted = FirstSettings(dialect_b=0.5, dropped=settings.dropped)
    pairs = []
    for index in rng.integers(len(known), size=settings.examples):
        question = known[index]
        steps = taught_draft(question, drafted, rng)
        pairs.append((SECOND_TEMPLATE.format(question.text, steps), taught_answer(steps, settings, rng)))
    make_small_llama("second", settings, words, pairs, seed, rng, folder)


def taught_draft(question: Question, settings: FirstSettings, rng: np.random.Generator) -> str:
    """A draft from the first model's training data: sometimes in dialect B, sometimes with a careless step missing."""
    careless = [index for index, verb in enumerate(question.verbs) if verb in CARELESS]
    dropped = None
    if careless and rng.random() < settings.dropped:
        dropped = careless[int(rng.integers(len(careless)))]
    return draft(question.sum, "B" if rng.random() < settings.dialect_b else "A", dropped)


def taught_answer(steps: str, settings: SecondSettings, rng: np.random.Generator) -> str:
    """An answer from the second model's training data: sometimes with dialect B's second sign misread."""
    read = readings(steps)
    totals = read[int(rng.integers(len(read)))]
    if dialect_of(steps) == "B" and totals[1] < totals[0] and rng.random() < settings.misread:
        totals = (totals[0], 2 * totals[0] - totals[1])
    return answer(totals)
