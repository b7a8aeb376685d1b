"""Splitting subjects into known and unseen ones, and drawing prompts about them; both are our choice."""

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator

Item = TypeVar("Item")
Subject = TypeVar("Subject")


def split(subjects: Sequence[Subject], unseen: float) -> tuple[list[Subject], list[Subject]]:
    """The subjects of pretraining and training prompts, and the share `unseen` held out for all other prompts."""
    # One fixed shuffle, so that foundation models and prompts agree whatever their seeds.
    order = numpy_generator("unseen subjects").permutation(len(subjects))
    held_out = {int(index) for index in order[: round(unseen * len(subjects))]}
    known = [subject for index, subject in enumerate(subjects) if index not in held_out]
    return known, [subject for index, subject in enumerate(subjects) if index in held_out]


def draw_prompts(
    known: Sequence[Subject], unseen: Sequence[Subject], questions: Callable[[Iterable[Subject]], list[Item]],
    row: Callable[[Item], dict[str, Any]], *, train: int, validation: int, test: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """A table of distinct prompts: `prompt_id, split`, then the columns that `row` returns for a question.

    Training prompts are drawn from the `questions` about `known` subjects. Validation and test divide the `unseen` ones
    between them, and each asks about every one of its subjects before it asks about one again. Raises `UserError` if
    there are too few questions.
    """
    rng = numpy_generator("prompts", seed)
    order = [unseen[index] for index in rng.permutation(len(unseen))]
    cut = min(validation, round(len(order) * validation / max(1, validation + test)))
    drawn = {
        "train": _drawn(questions(known), rng),
        "validation": _in_turn([_drawn(questions([subject]), rng) for subject in order[:cut]]),
        "test": _in_turn([_drawn(questions([subject]), rng) for subject in order[cut:]]),
    }
    rows: list[dict[str, Any]] = []
    for name, size in {"train": train, "validation": validation, "test": test}.items():
        if size > len(drawn[name]):
            raise UserError(f"prompts.{name}: {size} should be at most {len(drawn[name])}, the questions there are")
        rows += [{"split": name} | row(question) for question in drawn[name][:size]]
    table = pd.DataFrame(rows)
    table.insert(0, "prompt_id", [f"q{number:04d}" for number in range(len(table))])
    return table


def _drawn(items: list[Item], rng: np.random.Generator) -> list[Item]:
    return [items[index] for index in rng.permutation(len(items))]


def _in_turn(groups: Sequence[list[Item]]) -> list[Item]:
    """The first of every group, then the second of every group, and so on."""
    return [item for row in zip_longest(*groups) for item in row if item is not None]
