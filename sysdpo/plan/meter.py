"""Counting what a computation takes by going through it on torch's meta device, where tensors have shapes and no data.

Every operation is met in the order in which it would run, the backward pass and recomputed activations included, so
nothing has to be known of an architecture.
"""

import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
ATTENTION, ATTENTION_BACKWARD = (
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention_for_cpu_backward,
)
# torch counts this attention on GPUs only. A causal mask is counted as if it saved nothing, as torch does.
FORMULAS = flop_registry | {
    ATTENTION: flop_registry[aten._scaled_dot_product_flash_attention],
    ATTENTION_BACKWARD: flop_registry[aten._scaled_dot_product_flash_attention_backward],
}


@dataclass(frozen=True)
class Usage:
    """What something takes.

    flops: by number format, a multiplication and an addition being two. peak: bytes that are alive at once beyond those
    alive before it. kept: bytes that it leaves alive. read: bytes of weights and caches that have to be read, where
    that and not arithmetic takes the time (generation token by token).
    """

    flops: Mapping[torch.dtype, float]
    peak: float = 0.0
    kept: float = 0.0
    read: float = 0.0

    @property
    def total_flops(self) -> float:
        """Of all number formats."""
        return sum(self.flops.values())

    def rows(self, count: float) -> "Usage":
        """Of so many rows at once, where this is of one."""
        return Usage(self.times(count).flops, self.peak * count, self.kept * count, self.read)

    def times(self, count: float) -> "Usage":
        """Of doing it so many times, one after the other."""
        return Usage(
            {kind: flops * count for kind, flops in self.flops.items()}, self.peak, self.kept, self.read * count
        )

    def __add__(self, other: "Usage") -> "Usage":
        """One after the other, nothing of the first being kept."""
        kinds = self.flops.keys() | other.flops.keys()
        flops = {kind: self.flops.get(kind, 0.0) + other.flops.get(kind, 0.0) for kind in kinds}
        return Usage(flops, max(self.peak, other.peak), other.kept, self.read + other.read)


NOTHING = Usage({})


def extended(less: Usage, more: Usage, share: float) -> Usage:
    """Beyond `less` so many times what `more` is beyond it."""
    flops = {kind: value + share * (more.flops[kind] - value) for kind, value in less.flops.items()}
    return Usage(flops, less.peak + share * (more.peak - less.peak), less.kept + share * (more.kept - less.kept))


class Meter(TorchDispatchMode):
    """Adds up the FLOPs of what runs within it, and follows how many bytes of its tensors are alive.

    Attention is taken to run in a fused kernel, which never holds all its weights at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[torch.dtype] = Counter()
        self.alive = self.peak = 0
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __enter__(self) -> "Meter":
        self._patch = patch.object(torch.nn.functional, "scaled_dot_product_attention", _fused_attention)
        self._patch.start()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._patch.stop()

    @contextmanager
    def phase(self) -> Iterator[list[Usage]]:
        """What runs within it, as the one usage in the list once it is over; `kept` is all that is alive by then."""
        found: list[Usage] = []
        self.flops, self.peak = Counter(), self.alive
        before = self.alive
        yield found
        found.append(Usage(dict(self.flops), self.peak - before, self.alive))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and args[0].dtype == torch.bool:
            return True  # what is asked of masks, whether they hold everywhere, is so where nothing is padded
        if func.is_view or func._schema.is_mutable:
            return func(*args, **kwargs)
        # Many meta kernels are Python and take milliseconds, and a network repeats the same few thousand times.
        key = (func, _described(args), tuple((name, _described(value)) for name, value in kwargs.items()))
        known = _MADE.get(key)
        if known is None:
            made = func(*args, **kwargs)
            known = _MADE[key] = _Made.of(func, args, kwargs, made)
        else:
            made = known.again() if known.fresh else func(*args, **kwargs)
        if known.flops:
            self.flops[known.kind] += known.flops
        if known.fresh:
            for tensor in made if isinstance(made, (tuple, list)) else (made,):
                if tensor is not None:
                    self._follow(tensor)
        return made

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if tensor.device.type == "meta" and storage not in self._known:
            size = self._known[storage] = storage.nbytes()
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.alive -= size


def reserve_gradients(*networks: nn.Module) -> None:
    """Give every weight that is trained its gradient, so that a pass measured after it is as any but the first."""
    for network in networks:
        for weight in network.parameters():
            if weight.requires_grad and weight.grad is None:
                weight.grad = torch.empty_like(weight)


@dataclass(frozen=True)
class _Made:
    """What an operation makes of tensors of given shapes: the outputs' layouts and its FLOPs, in `kind`.

    `fresh` unless an output shares its memory with an input, or is no tensor.
    """

    fresh: bool
    layouts: tuple[Any, ...] = ()
    several: bool = False
    flops: int = 0
    kind: torch.dtype = torch.float32

    @classmethod
    def of(cls, func: Any, args: Any, kwargs: Any, made: Any) -> "_Made":
        several = isinstance(made, (tuple, list))
        outputs = tuple(made) if several else (made,)
        given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        tensors = [each for each in outputs if each is not None]
        if not all(isinstance(each, Tensor) and id(each.untyped_storage()) not in given for each in tensors):
            return cls(False)
        layouts = tuple(_described(each) for each in outputs)
        formula = FORMULAS.get(func._overloadpacket)
        if formula is None:
            return cls(True, layouts, several)
        return cls(True, layouts, several, formula(*args, **kwargs, out_val=made), tensors[0].dtype)

    def again(self) -> Any:
        """New tensors of these layouts."""
        made = [
            layout and torch.empty_strided(layout[0], layout[1], dtype=layout[2], device=layout[3])
            for layout in self.layouts
        ]
        return tuple(made) if self.several else made[0]


_MADE: dict[Any, _Made] = {}


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, (list, tuple)):
        return tuple(map(_described, value))
    return value


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    return ATTENTION(query, key, value, 0.0, False, scale=scale)[0]
