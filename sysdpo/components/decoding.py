"""Step-by-step generation from a causal language model, its prompts encoded once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sysdpo.components.architectures import Architecture


class CachedDecoder:
    """The `Decoder` of a causal language model (see `sysdpo.method.candidates`), which keeps the model's cache.

    input_ids: the prompts, padded in front, int64 `[conditions, n]`. mask: True where there is no padding, the same
    shape. ends: token ids that end a value. max_length: the most tokens of a value. value: makes a value of its tokens.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        architecture: Architecture,
        input_ids: Tensor,
        mask: Tensor,
        *,
        ends: Sequence[int],
        max_length: int,
        value: Callable[[list[int]], Any],
    ):
        self.ends = frozenset(ends)
        self.max_length = max_length
        self._model, self._architecture, self._value = model, architecture, value
        self._input_ids, self._prompt_mask = input_ids, mask.long()
        self._cache: Any = None

    @torch.no_grad()
    def start(self) -> Tensor:
        """`log p(first token | prompt)` at temperature 1: float32 `[conditions, vocabulary]`."""
        self._mask, self._cache = self._prompt_mask, self._architecture.new_cache()
        # Positions count from a prompt's first token, wherever padding put it.
        positions = (self._mask.cumsum(-1) - 1).clamp_min(0)
        return self._run(self._input_ids, positions)

    @torch.no_grad()
    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Append a token to each of these rows; returns `log p(next token | …)`: float32 `[m, vocabulary]`."""
        self._cache.reorder_cache(rows)
        mask = self._mask[rows]
        self._mask = torch.cat([mask, mask.new_ones(len(rows), 1)], -1)
        return self._run(tokens[:, None], self._mask.sum(-1, keepdim=True) - 1)

    def _run(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        told = {self._architecture.cache: self._cache}
        if self._architecture.positions:
            told["position_ids"] = positions
        if self._architecture.pads:  # nothing is padded elsewhere, and a recurrent layer takes a mask for its input's
            told["attention_mask"] = self._mask
        output = self._model(input_ids=input_ids, use_cache=True, logits_to_keep=1, **told)
        return output.logits[:, -1].float().log_softmax(-1)

    def value(self, tokens: Sequence[int]) -> Any:
        """The completion that these tokens, end token included, stand for."""
        return self._value(list(tokens))


class JoinedDecoder:
    """Several decoders as one.

    conditions: for each decoder the numbers of its conditions among all, in its own order.
    """

    def __init__(self, decoders: Sequence[CachedDecoder], conditions: Sequence[Sequence[int]]):
        self.ends, self.max_length, self.value = decoders[0].ends, decoders[0].max_length, decoders[0].value
        self._decoders, self._conditions = decoders, conditions

    def start(self) -> Tensor:
        """See `CachedDecoder`."""
        order = [number for numbers in self._conditions for number in numbers]
        log_probs = torch.cat([decoder.start() for decoder in self._decoders])
        index = torch.tensor(order, device=log_probs.device).argsort()
        sizes = torch.tensor([len(numbers) for numbers in self._conditions], device=log_probs.device)
        # Which decoder each present row belongs to, and which of its rows that is.
        self._owner = torch.arange(len(sizes), device=log_probs.device).repeat_interleave(sizes)[index]
        self._row = torch.cat([torch.arange(len(numbers)) for numbers in self._conditions]).to(index.device)[index]
        return log_probs[index]

    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """See `CachedDecoder`."""
        self._owner, kept = self._owner[rows], self._row[rows]
        self._row = torch.empty_like(kept)
        parts, order = [], []
        for number, decoder in enumerate(self._decoders):
            mine = (self._owner == number).nonzero()[:, 0]
            if len(mine):
                parts.append(decoder.advance(kept[mine], tokens[mine]))
                order.append(mine)
                self._row[mine] = torch.arange(len(mine), device=mine.device)
        return torch.cat(parts)[torch.cat(order).argsort()]
