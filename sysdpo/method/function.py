"""Deterministic nodes: parsers, tools, frozen retrievers. They contribute a factor of 1."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from sysdpo.method.component import Drift, LogProbs
from sysdpo.method.values import plain


class Function:
    """A node whose value is `function(*parents)`; of a generated text the function gets the plain text."""

    is_deterministic: Literal[True] = True

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        """Where its log-probabilities are added to others'."""
        self.device = device

    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Any]:
        """`function(*condition)` for each condition; the seeds change nothing."""
        return [self.function(*map(plain, condition)) for condition in conditions]

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]
    ) -> LogProbs:
        """Zeros of shape `[batch]`: a deterministic value has probability 1."""
        zeros = torch.zeros(len(values), device=self.device)
        return LogProbs(zeros, zeros)

    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]) -> Drift:
        """Zeros of shape `[batch]`: what is computed does not drift."""
        zeros = torch.zeros(len(values), device=self.device)
        return Drift(zeros, zeros)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """None."""
        return []

    def rebase_reference(self) -> None:
        """Nothing to do."""

    def save(self, folder: Path) -> None:
        """Nothing to write."""

    def load(self, folder: Path) -> None:
        """Nothing to read."""
