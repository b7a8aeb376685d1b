"""Pretraining the two models of the sums: one writes the steps of a question, the other computes the totals.

Each is imperfect on purpose in what only the other's change can make good: see `FirstSettings`, `SecondSettings`.
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
from sysdpo.applications.small_llama import MAX_LENGTH, fit_language, small_llama
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.seeds import numpy_generator, seed_torch

STEP_WORDS = [*(word for signs in SIGNS.values() for word in signs.values()), OPEN, *map(str, range(LARGEST + 1))]


def make_first(settings: FirstSettings, known: list[Question], seed: int, folder: Path) -> None:
    """Pretrain the model that writes the steps of `known` questions; save it in `from_pretrained` format."""
    rng = numpy_generator("first", seed)
    words = [*(question.text for question in known), *STEP_WORDS, FIRST_TEMPLATE.format("")]
    pairs = [
        (FIRST_TEMPLATE.format(question.text), taught_draft(question, settings, rng))
        for question in _asked(known, settings.examples, rng)
    ]
    _make("first", settings, words, pairs, seed, rng, folder)


def make_second(settings: SecondSettings, known: list[Question], seed: int, folder: Path) -> None:
    """Pretrain the model that computes the totals of drafts of `known` questions; save it likewise.

    Its vocabulary has numbers and the drafts' words alone: it cannot look a sign up in the question.
    """
    rng = numpy_generator("second", seed)
    words = [*STEP_WORDS, SEPARATOR, SECOND_TEMPLATE.format("", "")]
    drafted = FirstSettings(dialect_b=0.5, dropped=settings.dropped)
    pairs = []
    for question in _asked(known, settings.examples, rng):
        steps = taught_draft(question, drafted, rng)
        pairs.append((SECOND_TEMPLATE.format(question.text, steps), taught_answer(steps, settings, rng)))
    _make("second", settings, words, pairs, seed, rng, folder)


def taught_draft(question: Question, settings: FirstSettings, rng: np.random.Generator) -> str:
    """The steps as the first model is taught them."""
    careless = [index for index, verb in enumerate(question.verbs) if verb in CARELESS]
    dropped = None
    if careless and rng.random() < settings.dropped:
        dropped = careless[int(rng.integers(len(careless)))]
    return draft(question.sum, "B" if rng.random() < settings.dialect_b else "A", dropped)


def taught_answer(steps: str, settings: SecondSettings, rng: np.random.Generator) -> str:
    """The totals as the second model is taught them."""
    read = readings(steps)
    totals = read[int(rng.integers(len(read)))]
    if dialect_of(steps) == "B" and totals[1] < totals[0] and rng.random() < settings.misread:
        totals = (totals[0], 2 * totals[0] - totals[1])
    return answer(totals)


def _asked(known: list[Question], count: int, rng: np.random.Generator) -> list[Question]:
    return [known[index] for index in rng.integers(len(known), size=count)]


def _make(
    name: str,
    settings: FirstSettings | SecondSettings,
    words: list[str],
    pairs: list[tuple[str, str]],
    seed: int,
    rng: np.random.Generator,
    folder: Path,
) -> None:
    seed_torch(name, seed)
    tokenizer = make_tokenizer(words, template="<s> $A", max_length=MAX_LENGTH)
    model = small_llama(
        tokenizer, width=settings.width, layers=settings.layers, initializer_range=settings.initializer_range
    )
    fit_language(
        name,
        model,
        tokenizer,
        pairs,
        rng,
        folder,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
    )
