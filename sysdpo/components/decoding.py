"""Step-by-step generation from a causal language model, its prompts encoded once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class CachedDecoder:
    """The `Decoder` of a causal language model (see `sysdpo.candidates`), on its key-value cache.

    `input_ids` are the prompts, padded on the left; `mask` is true where they are not padding; both `[conditions, n]`.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        input_ids: Tensor,
        mask: Tensor,
        *,
        ends: Sequence[int],
        max_length: int,
        value: Callable[[list[int]], Any],
    ):
        self.ends = frozenset(ends)
        self.max_length = max_length
        self._model, self._input_ids, self._prompt_mask, self._value = model, input_ids, mask.long(), value
        self._cache: Any = None

    @torch.no_grad()
    def start(self) -> Tensor:
        """`log p(first token | prompt)` at temperature 1: float32 `[conditions, vocabulary]`."""
        self._mask, self._cache = self._prompt_mask, None
        # Positions count from a prompt's first token, wherever padding put it.
        positions = (self._mask.cumsum(-1) - 1).clamp_min(0)
        return self._run(self._input_ids, positions)

    @torch.no_grad()
    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Keep these rows, each with a token appended; returns `log p(next token | …)`: float32 `[m, vocabulary]`."""
        self._cache.reorder_cache(rows)
        mask = self._mask[rows]
        self._mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
        return self._run(tokens[:, None], self._mask.sum(-1, keepdim=True) - 1)

    def _run(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        output = self._model(
            input_ids=input_ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        return output.logits[:, -1].float().log_softmax(-1)

    def value(self, tokens: Sequence[int]) -> Any:
        """The completion that these tokens are, end token included."""
        return self._value(list(tokens))
