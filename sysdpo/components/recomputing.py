"""Gradient checkpointing: layers compute their activations again in the backward pass instead of keeping them.

In transformers a layer does so only while it is told that it trains, which would turn on whatever else it does in
training: dropout, noise in a router. Here it is told so at its door alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from sysdpo.base.errors import UserError


def recomputed_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers that `recomputing` applies to; raises `UserError` if the model has none."""
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not layers or not model.supports_gradient_checkpointing:
        raise UserError(
            f"gradient_checkpointing: true should be false for a {type(model).__name__}, whose layers cannot be "
            "computed again"
        )
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(_recompute, layer)
    return list(layers)


@contextmanager
def recomputing(layers: Sequence[nn.Module]) -> Iterator[None]:
    """A context in which these layers keep no activations but compute them again in the backward pass."""
    for layer in layers:
        layer.training = torch.is_grad_enabled()
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def _recompute(layer: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    def at_rest(*inputs: Any) -> Any:
        told, layer.training = layer.training, False
        try:
            return forward(*inputs)
        finally:
            layer.training = told

    return checkpoint(at_rest, *inputs, use_reentrant=False)
