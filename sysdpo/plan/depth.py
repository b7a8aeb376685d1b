"""Networks of many layers alike are measured with few of them: what they take grows evenly with their number."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn

from sysdpo.plan.meter import Usage, extended

FEW, MORE = 2, 4


def of_all_layers(measure: Callable[..., tuple[Usage, ...]]) -> Callable[..., tuple[Usage, ...]]:
    """`measure(network, …)`, computed once, of all the network's layers though it meets a few of them."""

    @cache
    def measured(network: Any, *arguments: Any, **settings: Any) -> tuple[Usage, ...]:
        decoder = network.get_base_model().get_decoder()
        if not _are_alike(decoder):
            return measure(network, *arguments, **settings)
        found = []
        for depth in (FEW, MORE):
            with _cut(decoder, depth):
                found.append(measure(network, *arguments, **settings))
        share = (len(decoder.layers) - FEW) / (MORE - FEW)
        return tuple(extended(few, more, share) for few, more in zip(*found, strict=True))

    return measured


def _are_alike(decoder: Any) -> bool:
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) <= MORE:
        return False
    kinds = {(type(layer), tuple(weight.shape for weight in layer.parameters())) for layer in layers}
    return len(kinds) == 1 and len(set(getattr(decoder.config, "layer_types", None) or [0])) == 1


@contextmanager
def _cut(decoder: Any, depth: int) -> Iterator[None]:
    """The network with its first layers alone."""
    layers, count = decoder.layers, decoder.config.num_hidden_layers
    decoder.layers, decoder.config.num_hidden_layers = layers[:depth], depth
    try:
        yield
    finally:
        decoder.layers, decoder.config.num_hidden_layers = layers, count
