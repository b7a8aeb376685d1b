"""Pretrained models that judge: loaded whole or refused, used on the GPU where there is one."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from sysdpo.base import numerics
from sysdpo.base.devices import process_state
from sysdpo.components.loading import load_whole

numerics.use_kernels()


def load_judge(load: Callable[..., Any], model: str, *, revision: str | None, dtype: str) -> Any:
    """A network by its class's `from_pretrained`, without gradients, on this process's GPU where it has one.

    Raises `UserError` if there is none, or if it is not whole: transformers would draw the rest at random.
    """
    network = load_whole(load, model, revision=revision, dtype=getattr(torch, dtype))
    return network.requires_grad_(False).eval().to(process_state().device)


@torch.no_grad()
def in_batches(
    function: Callable[[Sequence[Any]], Tensor],
    items: Sequence[Any],
    batch_size: int,
    *,
    key: Callable[[Any], Hashable] = lambda item: item,
) -> Tensor:
    """`function` of all the items, so many at a time, its rows in float32 in the host's memory.

    Items of one `key` are computed once: what shares a batch moves a number a little, and of two equal items neither
    must seem the better.
    """
    places: dict[Hashable, int] = {}
    distinct = []
    for item in items:
        if (name := key(item)) not in places:
            places[name] = len(places)
            distinct.append(item)
    starts = range(0, len(distinct), batch_size)
    rows = torch.cat([function(distinct[start : start + batch_size]).float().cpu() for start in starts])
    return rows[[places[key(item)] for item in items]]


def pixels(processor: Any, images: Sequence[Image], network: Any) -> Tensor:
    """What `network` reads of the images: `[n, 3, H, W]`."""
    weight = next(network.parameters())
    prepared = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
    return prepared["pixel_values"].to(weight.device, weight.dtype)
