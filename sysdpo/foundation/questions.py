"""What the question worlds share: what only held-out prompts ask about, and the draw of the prompts.

Both are our choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from sysdpo.errors import UserError
from sysdpo.seeds import numpy_generator

Item = TypeVar("Item")


@dataclass(frozen=True)
class QuestionSettings:
    """unseen: the share of a world's subjects that only validation and test prompts ask about."""

    unseen: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.unseen < 1:
            raise UserError(f"questions.unseen: {self.unseen} should be above 0 and below 1")


def split(subjects: Sequence[Item], unseen: float) -> tuple[list[Item], list[Item]]:
    """The subjects that pretraining and training prompts may use, and the share `unseen` kept for held-out prompts."""
    # One fixed shuffle: a foundation model and a table of prompts must agree whatever their seeds are.
    order = numpy_generator("unseen subjects").permutation(len(subjects))
    held_out = {int(index) for index in order[: round(unseen * len(subjects))]}
    known = [each for index, each in enumerate(subjects) if index not in held_out]
    return known, [each for index, each in enumerate(subjects) if index in held_out]


def draw_prompts(
    known: Sequence[Item], unseen: Sequence[Item], row: Callable[[Item], dict[str, Any]],
    *, train: int, validation: int, test: int, seed: int,
) -> pd.DataFrame:  # fmt: skip
    """A row a prompt, no question twice: `prompt_id, split`, then the columns that `row` gives of a question.

    Training prompts are drawn from `known`, the others from `unseen`; raises `UserError` where those are too few.
    """
    rng = numpy_generator("prompts", seed)
    rows = []
    for source, sizes in ((known, {"train": train}), (unseen, {"validation": validation, "test": test})):
        if sum(sizes.values()) > len(source):
            raise UserError(f"prompts: {sizes} should add up to at most {len(source)}")
        splits = [name for name, size in sizes.items() for _ in range(size)]
        drawn = rng.choice(len(source), len(splits), replace=False)
        rows += [{"split": name} | row(source[index]) for name, index in zip(splits, drawn, strict=True)]
    table = pd.DataFrame(rows)
    table.insert(0, "prompt_id", [f"q{number:04d}" for number in range(len(table))])
    return table
