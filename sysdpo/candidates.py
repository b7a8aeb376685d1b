"""Candidates for a hidden variable: what a component might have generated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


class Decoder(Protocol):
    """Generation from a component, step by step, for a batch of rows: first one row a condition.

    `ends` are the token ids that end a value; a value also ends after `max_length` tokens, its end token included.
    """

    ends: frozenset[int]
    max_length: int

    def start(self) -> Tensor:
        """`log p(first token | condition)`: float32 `[conditions, vocabulary]`."""
        ...

    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Keep these present rows (repeats allowed), each with a token appended; both int64 `[m]`.

        Returns `log p(next token | condition, tokens so far)`: float32 `[m, vocabulary]`.
        """
        ...

    def value(self, tokens: Sequence[int]) -> Any:
        """The value that these tokens are, end token included."""
        ...


@dataclass(frozen=True)
class Candidate:
    """A value and the logarithm of the probability it has under what generated it, in nats.

    Of beams that is the component's own `log p(value | condition)`, of draws the proposal's (tempered, or cut to its
    nucleus).
    """

    value: Any
    log_prob: float
