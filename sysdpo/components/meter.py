"""What a computation takes, found by running it on torch's meta device, where tensors have shapes and no data.

Operations are counted by the formulas of torch's `FlopCounterMode`, one number format at a time (that counter adds them
all up, and a card's speed depends on them), and in the same pass the bytes of the tensors that are alive.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import masking_utils

aten = torch.ops.aten
FLASH = aten._scaled_dot_product_flash_attention_for_cpu
# torch counts this attention on GPUs only. A causal mask is counted as if it saved nothing, as torch does.
FORMULAS = flop_registry | {
    FLASH: flop_registry[aten._scaled_dot_product_flash_attention],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        aten._scaled_dot_product_flash_attention_backward
    ],
}


@dataclass(frozen=True)
class Usage:
    """The arithmetic and memory of a computation.

    flops: by number format; a multiplication and an addition are two. peak: the most bytes alive at once beyond those
    alive before. kept: the bytes still alive afterwards, beyond those alive before. read: bytes of weights and caches
    that are read where that, not arithmetic, takes the time (token by token generation). tokens: read or written.
    images: drawn, denoised or scored.
    """

    flops: Mapping[torch.dtype, float]
    peak: float = 0.0
    kept: float = 0.0
    read: float = 0.0
    tokens: float = 0.0
    images: float = 0.0

    @property
    def total_flops(self) -> float:
        """The sum over number formats."""
        return sum(self.flops.values())

    def times(self, count: float) -> "Usage":
        """The usage of `count` such computations, one after the other."""
        flops = {kind: flops * count for kind, flops in self.flops.items()}
        return Usage(flops, self.peak, self.kept, *(count * number for number in (self.read, self.tokens, self.images)))

    def __add__(self, other: "Usage") -> "Usage":
        """The usage of both, one after the other, if nothing of the first is kept."""
        flops = {kind: self.flops.get(kind, 0.0) + other.flops.get(kind, 0.0) for kind in {*self.flops, *other.flops}}
        counts = (self.read + other.read, self.tokens + other.tokens, self.images + other.images)
        return Usage(flops, max(self.peak, other.peak), other.kept, *counts)


NOTHING = Usage({})


class Meter(TorchDispatchMode):
    """A context that adds up the FLOPs of what runs in it, and follows how many bytes of meta tensors are alive.

    Attention is assumed to run in a fused kernel, which never holds all its weights at once, and batches to have
    padding. What is moved to the host takes no memory.

    networks: their weights and gradients are alive from the start.
    """

    def __init__(self, *networks: nn.Module):
        super().__init__()
        self.flops: Counter[torch.dtype] = Counter()
        self.alive = self.peak = 0
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        for network in networks:
            gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
            for tensor in (*network.parameters(), *network.buffers(), *gradients):
                self._follow(tensor)

    def measured(self, run: Callable[[], Any]) -> Usage:
        """The usage of `run()`, whose result counts as alive until it returns."""
        self.flops, self.peak = Counter(), self.alive
        before = self.alive
        attention = patch.object(torch.nn.functional, "scaled_dot_product_attention", _fused_attention)
        # It looks whether positions start anew within a row, which would need a mask; here they never do.
        one_text_a_row = patch.object(masking_utils, "find_packed_sequence_indices", return_value=None)
        with self, attention, one_text_a_row:
            kept = run()
        usage = Usage(dict(self.flops), self.peak - before, self.alive - before)
        del kept
        return usage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and args[0].is_meta:
            # A loss to be logged, or whether a mask leaves everything: where there is padding it does not.
            return 0.0 if args[0].dtype.is_floating_point else False
        if func is aten._to_copy.default and args[0].is_meta and kwargs.get("device") == torch.device("cpu"):
            return func(*args, **kwargs | {"device": args[0].device})
        if func.is_view or func._schema.is_mutable:
            return func(*args, **kwargs)
        key = (func, _layout(args), _layout(tuple(kwargs.items())))
        if key not in _RESULTS:
            made = func(*args, **kwargs)
            if not _is_new(made, (args, kwargs)):
                return made
            formula = FORMULAS.get(func._overloadpacket)
            flops = formula(*args, **kwargs, out_val=made) if formula else 0
            _RESULTS[key] = isinstance(made, Tensor), [_layout(tensor) for tensor in _outputs(made)], flops
        is_one, layouts, flops = _RESULTS[key]
        new = [layout and torch.empty_strided(*layout[:2], dtype=layout[2], device=layout[3]) for layout in layouts]
        self.flops[next(layout[2] for layout in layouts if layout)] += flops
        for tensor in filter(lambda made: made is not None, new):
            self._follow(tensor)
        return new[0] if is_one else tuple(new)

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            size = self._known[storage] = storage.nbytes()
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.alive -= size


_RESULTS: dict[Any, tuple[bool, list[Any], int]] = {}
"""What an operation makes of tensors of certain layouts, and its FLOPs: many meta kernels are Python and take
milliseconds, and a network repeats the same few thousand times.
"""


def _layout(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    return tuple(map(_layout, value)) if isinstance(value, (list, tuple)) else value


def _outputs(made: Any) -> Any:
    return made if isinstance(made, (tuple, list)) else (made,)


def _is_new(made: Any, inputs: Any) -> bool:
    """Whether all outputs are meta tensors that share no memory with the inputs."""
    before = {id(tensor.untyped_storage()) for tensor in tree_leaves(inputs) if isinstance(tensor, Tensor)}
    tensors = [tensor for tensor in _outputs(made) if tensor is not None]
    new = [
        isinstance(tensor, Tensor) and tensor.is_meta and id(tensor.untyped_storage()) not in before
        for tensor in tensors
    ]
    return bool(new) and all(new)


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> Any:
    # torch turns a mask of true and false into one of numbers, which is alive as long as the kernel runs.
    numbers = None
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        numbers = torch.empty(attn_mask.shape, dtype=query.dtype, device=query.device)
    attended = FLASH(query, key, value, 0.0, False, scale=scale)[0]
    del numbers
    return attended
