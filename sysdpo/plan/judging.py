"""The cost of models that score trajectories, picture by picture or as conversations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sysdpo.components.meter import NOTHING, Meter, Usage
from sysdpo.components.weightless import conversation_tokens, parameters, weight_bytes
from sysdpo.method.benchmark import Judge

IMAGE_SIDE = 224  # pixels, of classifiers without this setting


class Judging:
    """A frozen model, with its configuration in `folder`. texts: question and answer, typical ones and the longest.
    images: per trajectory.
    """

    def __init__(self, network: Any, judge: Judge, folder: Path, *, texts: Sequence[Any], images: int):
        self.model, self.parameters, self.weights = judge.model, parameters(network), weight_bytes(network)
        self.network = getattr(network, "vision_model", network)
        self.sees = self.network.main_input_name == "pixel_values"
        # A decoder without a padding token scores one text at a time.
        padded = self.sees or getattr(network.config, "pad_token_id", None) is not None
        self.batch_size = judge.batch_size if padded else 1
        limits = (judge.max_length, getattr(network.config, "max_position_embeddings", None))
        tokens = [0 if self.sees else conversation_tokens(folder, *text) for text in texts]
        lengths = [min([length, *filter(None, limits)]) for length in tokens]
        usual, most = map(self._one, lengths)
        counts: dict[str, Any] = {"images": 1} if self.sees else {"tokens": lengths[0]}
        self.one, self.inputs = replace(usual, peak=most.peak, **counts), images if self.sees else 1

    @torch.no_grad()
    def _one(self, tokens: int) -> Usage:
        side, dtype = getattr(self.network.config, "image_size", IMAGE_SIDE), self.network.dtype
        with torch.device("meta"):
            picture, text = torch.empty(1, 3, side, side, dtype=dtype), torch.ones(1, tokens, dtype=torch.long)
            seen = {"pixel_values": picture} if self.sees else {"input_ids": text, "attention_mask": text}
            return Meter(self.network).measured(lambda: self.network(**seen))

    def usage(self, trajectories: float) -> Usage:
        """The cost of scoring this many trajectories, `batch_size` texts, or pictures of one variable, at a time."""
        rows, peak = trajectories * self.inputs, self.one.peak * min(trajectories, self.batch_size)
        return replace(self.one.times(rows), peak=peak) if rows else NOTHING
