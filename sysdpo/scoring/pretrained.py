"""Pretrained models that judge: loaded whole or refused, used on the GPU where there is one."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from sysdpo.components.loading import load_pretrained
from sysdpo.errors import UserError
from sysdpo.processes import process_state


def load_whole(load: Callable[..., Any], model: str, *, revision: str | None, dtype: str) -> Any:
    """A network by its class's `from_pretrained`, without gradients, on this process's GPU where it has one.

    Raises `UserError` if there is none, or if it lacks weights: transformers would draw those at random.
    """
    settings = {"revision": revision, "dtype": getattr(torch, dtype), "output_loading_info": True}
    network, found = load_pretrained(load, model, **settings)
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"model: '{model}' should hold a whole {type(network).__name__}; it lacks {len(missing)} weights, "
            f"'{missing[0]}' the first"
        )
    return network.requires_grad_(False).eval().to(process_state().device)


@torch.no_grad()
def in_batches(function: Callable[[Sequence[Any]], Tensor], items: Sequence[Any], batch_size: int) -> Tensor:
    """`function` of all the items, so many at a time, its rows in float32 in the host's memory."""
    starts = range(0, len(items), batch_size)
    return torch.cat([function(items[start : start + batch_size]).float().cpu() for start in starts])


def pixels(processor: Any, images: Sequence[Image], network: Any) -> Tensor:
    """What `network` reads of the images: `[n, 3, H, W]`."""
    weight = next(network.parameters())
    prepared = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
    return prepared["pixel_values"].to(weight.device, weight.dtype)
