"""What all models that train a LoRA adapter share: the adapter off, inside the weights, or folded into small ones."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

FEW = 3  # ranks: a layer no wider than these has more work with its adapter apart


@contextmanager
def without_adapter(network: nn.Module) -> Iterator[None]:
    """A context, to be used within `torch.no_grad`, in which the network has its adapters off.

    PEFT's and diffusers' own contexts also search all modules for weights with gradients, which costs a small model a
    sixth of an update.
    """
    layers = [part for part in network.modules() if isinstance(part, BaseTunerLayer)]
    before = [layer.disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, disabled in zip(layers, before, strict=True):
            layer._disable_adapters = disabled


@contextmanager
def merged(network: nn.Module) -> Iterator[None]:
    """A context for generation in which the active adapter is part of the weights; they are restored bit by bit.

    Nothing is merged where that would round (below float32), cost memory (packed or sharded weights), or where more
    than one adapter is active. The network must call its layers: one that reads a layer's weight itself, as recurrent
    language models do, has another policy with the adapter inside it.
    """
    layers = [part for part in network.modules() if isinstance(part, LoraLinear) and not part.disable_adapters]
    plain = all(_is_plain(layer) and len(layer.active_adapters) == 1 and not layer.merged for layer in layers)
    plain = plain and not any(isinstance(part, FSDPModule) for part in network.modules())
    shipped = [layer.base_layer.weight.data for layer in layers] if plain else []
    try:
        for layer, weight in zip(layers, shipped, strict=False):
            (name,) = layer.active_adapters
            layer.base_layer.weight.data = weight + layer.get_delta_weight(name)
            layer.merged_adapters.append(name)
        yield
    finally:
        for layer, weight in zip(layers, shipped, strict=False):
            layer.base_layer.weight.data = weight
            layer.merged_adapters.clear()


def fold_into_small(network: nn.Module) -> None:
    """Let small layers add their adapter to the weight before they multiply, `x (W + s·B·A)ᵀ`, instead of after.

    These are fewer and larger operations. `A` and `B` get the same gradients, and with `B = 0` the layer returns, bit
    by bit, what it returns without the adapter. Our choice.
    """
    for layer in network.modules():
        if isinstance(layer, LoraLinear) and _is_plain(layer):
            inside, outside = layer.base_layer.in_features, layer.base_layer.out_features
            if inside * outside <= FEW * max(layer.r.values()) * (inside + outside):
                layer.forward = MethodType(_folded, layer)


def sort_metadata(file: Path) -> None:
    """Sort a safetensors file's metadata: their order is random otherwise, and equal adapters should be equal files."""
    content = file.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    sorted_header = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    padded = sorted_header + b" " * (-len(sorted_header) % 8)  # tensors start at a multiple of eight
    file.write_bytes(struct.pack("<Q", len(padded)) + padded + content[8 + length :])


def _folded(layer: LoraLinear, x: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    # A strided input torch multiplies in another way where the weight asks for a gradient: policy and reference would
    # be rounded differently before the first update.
    x = x.contiguous()
    if layer.disable_adapters or layer.merged or len(active) != 1:
        return type(layer).forward(layer, x, *arguments, **keywords)
    (name,) = active
    return nn.functional.linear(x, _folded_weight(layer, name), layer.base_layer.bias)


def _folded_weight(layer: LoraLinear, name: str) -> Tensor:
    base, scaling = layer.base_layer, layer.scaling[name]
    return torch.addmm(base.weight, layer.lora_B[name].weight, layer.lora_A[name].weight, alpha=scaling)


def merge_folded(network: nn.Module) -> None:
    """Merge the adapter permanently into the folded layers, with exactly the weights that they multiply by."""
    for layer in network.modules():
        if isinstance(layer, LoraLinear) and getattr(layer.forward, "__func__", None) is _folded:
            (name,) = layer.active_adapters
            layer.base_layer.weight.data = _folded_weight(layer, name).detach()
            layer.merged_adapters.append(name)


def _is_plain(layer: LoraLinear) -> bool:
    """Whether the adapter is nothing but `s·B·A` beside an unpacked float32 weight."""
    if type(layer.base_layer) is not nn.Linear or type(layer.base_layer.weight) is not nn.Parameter:
        return False
    undisturbed = all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())
    simple = not layer.lora_variant and not any(layer.lora_bias.values())
    return layer.base_layer.weight.dtype == torch.float32 and simple and undisturbed
