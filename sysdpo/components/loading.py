"""Loading anything in `from_pretrained` format, with an error a user can read."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sysdpo.errors import UserError

FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


def load_pretrained(
    load: Callable[..., Any], model: str | Path, *arguments: Any, what: str = "model", **settings: Any
) -> Any:
    """`load(model, …)`; a folder or hub id that holds no such model, or one that does not fit, raises `UserError`."""
    try:
        return load(str(model), *arguments, **settings)
    except FAILURES as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{what}: '{model}' cannot be loaded; it should be a hub id or a local folder in from_pretrained format "
            f"that fits ({type(error).__name__}: {reason})"
        ) from error


def four_bit(dtype: torch.dtype) -> Any:
    """Weights in four bits (NF4), computed with in `dtype`; raises `UserError` without bitsandbytes."""
    if find_spec("bitsandbytes") is None:
        raise UserError("load_in_4bit: true needs the package bitsandbytes; install sysdpo[quantized]")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def add_lora(add: Callable[..., Any], lora: Any) -> Any:
    """`add(lora)`, where `lora` is a `LoraConfig`; one that matches nothing in the model raises `UserError`."""
    try:
        return add(lora)
    except ValueError as error:
        raise UserError(
            f"lora.target_modules: {lora.target_modules} should name layers of the model ({error})"
        ) from error


def check_same_weights(
    before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]], folder: str | Path
) -> None:
    """Raises `UserError` unless an adapter's weights have these names and shapes: loaders pass over others silently."""
    if differing := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
        raise UserError(
            f"adapter: '{folder}' does not fit this model's lora settings; {len(differing)} weights differ in name or "
            f"shape, '{differing[0]}' the first"
        )
