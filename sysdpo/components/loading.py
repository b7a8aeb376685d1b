"""Loading models in `from_pretrained` format: complete or not at all, with an error a user can read."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from sysdpo.base import numerics
from sysdpo.base.errors import UserError

numerics.use_kernels()

FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


CONSTANTS = re.compile(r"(^|\.)(attn|attention)\.(masked_)?bias$|causal_mask$|inv_freq$|position_ids$")
"""Masks and positions that older versions saved beside the weights."""


def load_pretrained(
    load: Callable[..., Any], model: str | Path, *arguments: Any, what: str = "model", **settings: Any
) -> Any:
    """`load(model, …)`, with a readable error.

    what: what should be there, for the error.

    Raises `UserError` if the folder or hub id holds no such model, or one that does not fit.
    """
    try:
        return load(str(model), *arguments, **settings)
    except UserError:
        raise
    except FAILURES as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{what}: '{model}' cannot be loaded; it should be a hub id or a local folder in from_pretrained format "
            f"that fits ({type(error).__name__}: {reason})"
        ) from error


def load_whole(load: Callable[..., Any], model: str | Path, *, what: str = "model", **settings: Any) -> Any:
    """`load_pretrained` for a network of transformers, all of whose weights must be found; see `check_whole`."""
    network, found = load_pretrained(
        load, model, what=what, output_loading_info=True, ignore_mismatched_sizes=True, **settings
    )
    check_whole(network, found, model, what=what)
    return network


def check_whole(network: nn.Module, found: Mapping[str, Any], model: str | Path, *, what: str = "model") -> None:
    """Raises `UserError` unless a checkpoint holds the weights of `network`, no fewer, no others, in the same shapes.

    Transformers draws weights at random that a checkpoint lacks, or has under another name or in another shape, and
    ignores those it does not know. A weight that is tied to one that is there is not missing. Weights that belong to no
    part of the network, the value head of a policy for example, and computed buffers may be there besides.

    found: what `from_pretrained(…, output_loading_info=True)` of transformers returns beside the network.
    """
    base = getattr(network, getattr(network, "base_model_prefix", None) or "", network)  # often saved by itself
    parts = {name for module in (network, base) for name, _ in module.named_children()}
    buffers = {name for module in (network, base) for name, _ in module.named_buffers()}
    missing = sorted(found["missing_keys"])
    misshapen = sorted(name for name, *_ in found.get("mismatched_keys") or ())
    surplus = sorted(found["unexpected_keys"])
    within = [
        name for name in surplus if name.split(".")[0] in parts and name not in buffers and not CONSTANTS.search(name)
    ]
    faults = {"lacks": missing, "has in another shape": misshapen, "has besides": surplus if missing else within}
    told = [f"it {verb} {len(names)} weights, '{names[0]}' the first" for verb, names in faults.items() if names]
    if told:
        raise UserError(f"{what}: '{model}' should hold a whole {type(network).__name__}; {'; '.join(told)}")


def load_language_model(model: str | Path, *, revision: str | None, dtype: torch.dtype, load_in_4bit: bool) -> Any:
    """A causal language model with all its weights, from a hub id or a folder in `from_pretrained` format.

    For an adapter of PEFT, as supervised fine-tuning leaves it, that is the base model with the adapter merged into it.

    Raises `UserError` for anything else, and for an adapter with `load_in_4bit`: merging would round it away.
    """
    from peft import PeftConfig
    from transformers import AutoModelForCausalLM
    from transformers.utils.peft_utils import find_adapter_config_file

    if load_pretrained(find_adapter_config_file, model, revision=revision) is None:
        quantized = {"quantization_config": four_bit(dtype)} if load_in_4bit else {}
        load = AutoModelForCausalLM.from_pretrained
        return load_whole(load, model, revision=revision, dtype=dtype, **quantized)
    if load_in_4bit:
        raise UserError(
            f"load_in_4bit: true should be false for '{model}', which is an adapter; merge it into its base model and "
            "name the folder of the whole"
        )
    adapter = load_pretrained(PeftConfig.from_pretrained, model, revision=revision)
    base = adapter.base_model_name_or_path
    if not base or Path(base).resolve() == Path(model).resolve():
        raise UserError(
            f"model: '{model}' holds an adapter, whose adapter_config.json should name another folder or a hub id as "
            f"base_model_name_or_path, not {base!r}"
        )
    network = load_language_model(base, revision=adapter.revision, dtype=dtype, load_in_4bit=False)
    return load_pretrained(_merge, model, network, adapter, revision)


def _merge(folder: str, network: Any, adapter: Any, revision: str | None) -> Any:
    """`network` with the weights of an adapter added to its own."""
    from peft import get_peft_model

    adapted = get_peft_model(network, adapter)
    found = adapted.load_adapter(folder, adapter_name="default", revision=revision)
    if astray := sorted([*found.missing_keys, *found.unexpected_keys]):
        raise UserError(
            f"model: '{folder}' should be an adapter of '{adapter.base_model_name_or_path}'; {len(astray)} weights are "
            f"in one of the two alone, '{astray[0]}' the first"
        )
    merged = adapted.merge_and_unload()
    merged.name_or_path = folder  # what an adapter that is trained on top of it names as its base
    return merged


def load_tokenizer(model: str | Path, *, revision: str | None = None) -> Any:
    """The tokenizer of a language model; for an adapter without one, that of its base model."""
    from peft import PeftConfig
    from transformers import AutoTokenizer
    from transformers.utils import cached_file
    from transformers.utils.peft_utils import find_adapter_config_file

    has_file = partial(cached_file, _raise_exceptions_for_missing_entries=False)
    adapted = load_pretrained(find_adapter_config_file, model, revision=revision) is not None
    if not adapted or load_pretrained(has_file, model, "tokenizer_config.json", revision=revision):
        return load_pretrained(AutoTokenizer.from_pretrained, model, revision=revision)
    adapter = load_pretrained(PeftConfig.from_pretrained, model, revision=revision)
    return load_tokenizer(adapter.base_model_name_or_path, revision=adapter.revision)


def four_bit(dtype: torch.dtype) -> Any:
    """The configuration for weights in four bits (NF4, Dettmers et al., arXiv 2305.14314), computed in `dtype`.

    Raises `UserError` if bitsandbytes is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise UserError("load_in_4bit: true needs the package bitsandbytes; install sysdpo[quantized]")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def add_lora(add: Callable[..., Any], lora: Any) -> Any:
    """`add(lora)`, which gives a network the adapter.

    lora: a `LoraConfig`.

    Raises `UserError` if it matches nothing in the network, or trains more than can be switched off.
    """
    for name in ("modules_to_save", "trainable_token_indices"):
        if trained := getattr(lora, name, None):
            raise UserError(
                f"lora.{name}: {trained} should be left out, because the reference is the model with its adapter "
                "switched off, and these weights would be trained in both"
            )
    try:
        return add(lora)
    except ValueError as error:
        raise UserError(
            f"lora.target_modules: {lora.target_modules} should name layers of the model ({error})"
        ) from error


def check_adapted(model: nn.Module, targets: Any) -> None:
    """Raises `UserError` if an adapter is on a router: Llama 4's is a linear layer that returns several tensors."""
    for name, layer in model.named_modules():
        base = getattr(layer, "base_layer", None)
        if isinstance(base, nn.Linear) and "Router" in type(base).__name__:
            raise UserError(
                f"lora.target_modules: {targets} should leave out '{name.split('.')[-1]}', the choice between experts"
            )


def check_same_weights(
    before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]], folder: str | Path
) -> None:
    """Raises `UserError` unless names and shapes of an adapter's weights are as before: loaders ignore others."""
    if differing := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
        raise UserError(
            f"adapter: '{folder}' does not fit this model's lora settings; {len(differing)} weights differ in name or "
            f"shape, '{differing[0]}' the first"
        )
