"""What a decoder's architecture allows for a batch, found from its class and its configuration."""

from dataclasses import dataclass
from inspect import signature
from typing import Any

from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import (
    DummyLayer,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from sysdpo.base.errors import UserError

ATTENDED = {DynamicLayer, DynamicSlidingWindowLayer, DummyLayer}  # an attention mask hides padding from these
RECURRENT = {
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    DynamicIndexedLayer,
}
STATE_OUTSIDE = {"recurrent_gemma"}  # what it remembers lies in its modules, where beams cannot be reordered
LENGTH_DEPENDENT = {"dynamic", "longrope"}  # past the original length such positions depend on a batch's longest row


@dataclass(frozen=True)
class Architecture:
    """How a decoder may be run.

    pads: whether prompts of different lengths may share a batch, padded in front. shares: whether a prefix may be
    encoded once, and continued by several tokens from its cache. positions: whether it takes positions. cache: the name
    of the argument for the cache. context: how many tokens it has positions for; None is any number.
    """

    config: Any
    pads: bool
    shares: bool
    positions: bool
    cache: str
    context: int | None

    def new_cache(self) -> DynamicCache:
        """An empty cache, as `generate` makes it."""
        return DynamicCache(config=self.config)


def architecture_of(model: PreTrainedModel) -> Architecture:
    """How a model may be run.

    A recurrent layer reads padding like tokens, and a model that takes no positions may count padding: for these only
    prompts of the same length share a batch (our choice).

    Raises `UserError` for a model that does not decode from left to right, or whose beams cannot be reordered.
    """
    name, known = type(model).__name__, signature(model.forward).parameters
    config = model.config.get_text_config(decoder=True)
    if model.config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", True):
        raise UserError(
            f"model: a {name} reads a text from both sides and should be a causal language model, which reads it from "
            "left to right"
        )
    cache = next((name for name in ("past_key_values", "cache_params") if name in known), None)
    layers = _cache_layers(model, config)
    if cache is None or "logits_to_keep" not in known or not layers or layers - ATTENDED - RECURRENT:
        raise UserError(
            f"model: a {name} should be a causal language model that goes on from a cache whose rows can be reordered, "
            "as Llama, Gemma, GPT-OSS or Mamba do"
        )
    positions = "position_ids" in known
    return Architecture(
        config=config,
        pads=positions and layers <= ATTENDED,
        shares=layers == {DynamicLayer},
        positions=positions,
        cache=cache,
        context=context_length(config),
    )


def _cache_layers(model: PreTrainedModel, config: Any) -> set[type]:
    """The classes of the layers of the model's cache; none if it has a cache of its own kind."""
    generates = isinstance(model, GenerationMixin) and model._supports_default_dynamic_cache()
    if not generates or model.config.model_type in STATE_OUTSIDE:
        return set()
    try:
        return {type(layer) for layer in DynamicCache(config=config).layers}
    except (AttributeError, KeyError, TypeError):
        return set()


def context_length(config: Any) -> int | None:
    """How many tokens a model of this configuration has positions for; None is any number.

    That is `max_position_embeddings`. If a scaling of rotary positions names its original length, it is that length
    times the factor where this is more, or the original length itself where positions beyond it depend on the batch.
    """
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1 or getattr(config, "alibi", False):
        return None
    for scaling in _rotary_scalings(config):
        original = scaling.get("original_max_position_embeddings")
        if scaling.get("rope_type") in LENGTH_DEPENDENT:
            longest = min(longest, original or longest)
        elif original:
            longest = max(longest, int(original * scaling.get("factor", 1)))
    return longest


def _rotary_scalings(config: Any) -> list[dict[str, Any]]:
    """The scalings of rotary positions: one for all layers, or one for each kind of layer."""
    scaling = getattr(config, "rope_parameters", None) or {}
    return [scaling] if "rope_type" in scaling else [value for value in scaling.values() if isinstance(value, dict)]
