"""A decoder whose probabilities stand in a table, to be checked on paper."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class TableDecoder:
    """`tables`: for each condition, the next token's probabilities by the tokens before it."""

    def __init__(self, tables: Sequence[Mapping[tuple[int, ...], Sequence[float]]], *, ends: set[int], max_length: int):
        self.tables, self.ends, self.max_length = tables, frozenset(ends), max_length

    def start(self) -> Tensor:
        self.rows: list[tuple[int, tuple[int, ...]]] = [(row, ()) for row in range(len(self.tables))]
        return self._log_probs()

    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        pairs = zip(rows.tolist(), tokens.tolist(), strict=True)
        self.rows = [(self.rows[row][0], (*self.rows[row][1], token)) for row, token in pairs]
        return self._log_probs()

    def value(self, tokens: Sequence[int]) -> tuple[int, ...]:
        return tuple(tokens)

    def _log_probs(self) -> Tensor:
        vocabulary = len(self.tables[0][()])
        # What no beam of interest can reach (its probability is 0) needs no row of the table.
        uniform = [1 / vocabulary] * vocabulary
        return torch.tensor([self.tables[row].get(tokens, uniform) for row, tokens in self.rows]).log()
