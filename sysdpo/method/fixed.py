"""What the components have in common that are never trained, and that no probability is asked of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sysdpo.method.component import Drift, LogProbs


class Fixed:
    """A factor of 1 in the probability of a system: policy and reference are the same, and their ratio cancels."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> None:
        """Return log-probabilities on this device from now on."""
        self.device = device

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]
    ) -> LogProbs:
        """Zeros of shape `[batch]`."""
        zeros = torch.zeros(len(values), device=self.device)
        return LogProbs(zeros, zeros)

    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]) -> Drift:
        """Zeros of shape `[batch]`: it is its own reference."""
        zeros = torch.zeros(len(values), device=self.device)
        return Drift(zeros, zeros)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """An empty list: there is nothing to train."""
        return []

    def rebase_reference(self) -> None:
        """Nothing to do."""

    def save(self, folder: Path) -> None:
        """Nothing to write."""

    def load(self, folder: Path) -> None:
        """Nothing to read."""
