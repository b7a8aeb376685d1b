"""Loading and running pretrained judges, on the GPU if there is one."""

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
    """A network from its class's `from_pretrained`, without gradients, on this process's device.

    Raises `UserError` if it cannot be loaded, or lacks weights, which transformers would initialise at random.
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
    """The rows that `function` returns for all items, computed `batch_size` at a time, in float32 on the CPU.

    Items with the same `key` are computed once: results vary slightly with the rest of a batch, but equal items must
    get equal scores.
    """
    indices: dict[Hashable, int] = {}
    distinct = []
    for item in items:
        if (item_key := key(item)) not in indices:
            indices[item_key] = len(indices)
            distinct.append(item)
    starts = range(0, len(distinct), batch_size)
    rows = torch.cat([function(distinct[start : start + batch_size]).float().cpu() for start in starts])
    return rows[[indices[key(item)] for item in items]]


def pixels(processor: Any, images: Sequence[Image], network: Any) -> Tensor:
    """The images as `network`'s input: `[n, 3, H, W]`."""
    weight = next(network.parameters())
    prepared = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
    return prepared["pixel_values"].to(weight.device, weight.dtype)
