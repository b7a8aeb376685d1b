"""A causal language model at a node: transformers for the model, PEFT for what is trained."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import CONFIG_NAME
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import DynamicLayer

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.components.architectures import architecture_of
from sysdpo.components.decoding import CachedDecoder, JoinedDecoder
from sysdpo.components.loading import (
    add_lora,
    check_adapted,
    check_same_weights,
    load_language_model,
    load_pretrained,
    load_tokenizer,
)
from sysdpo.components.lora import fold_into_small
from sysdpo.components.lora_component import POLICY, REFERENCE, LoraComponent
from sysdpo.components.prompting import PromptEncoder, end_token
from sysdpo.components.recomputing import recomputed_layers, recomputing
from sysdpo.components.settings import CompletionSettings, LanguageModelLoading
from sysdpo.components.sharding import shard
from sysdpo.components.usage import language_usage
from sysdpo.components.whole_models import whole_language_model
from sysdpo.method.component import Drift, LogProbs, Usage
from sysdpo.method.values import Completion

WORTH_SHARING = 16  # tokens; encoding a shorter prefix apart costs more than it saves
PADDING = 0  # any token will do: what is padding is never read
SMALLEST = 2.0**-54  # half the smallest step of the noise, instead of a zero whose logarithm would always win


class LanguageModel(LoraComponent):
    """`p_θ(completion | prompt)` of a causal language model with a LoRA adapter, or frozen where `lora` is None.

    The prompt is `template.format(*condition)`, passed through the tokenizer's chat template where it has one, after
    the system message `system_prompt.format(*condition)` where that is not empty. The reference is the same network
    with the adapter off, or, once rebased, with a frozen copy of the adapter; the adapter's weights are float32.
    lora: PEFT's words. settings: those of `CompletionSettings`, where the template is `"{0}"` if there is none.

    Raises `UserError` for a wrong setting, for a model whose prompts cannot be completed as a plain forward pass would
    (see `architecture_of`), for one without an end token, and, when it is used, for what is longer than its context.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        lora: Mapping[str, Any] | None,
        **settings: Any,
    ):
        super().__init__(is_trained=lora is not None)
        chosen = CompletionSettings(**settings)
        self.name, self._vocabulary = model.name_or_path, model.get_input_embeddings().weight.shape[0]
        self.architecture = architecture_of(model)
        self._recomputed = recomputed_layers(model) if chosen.gradient_checkpointing else []
        model.requires_grad_(False)
        self.model: Any = model
        if lora is not None:
            config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **lora)
            self.model = add_lora(partial(get_peft_model, model), config)
            check_adapted(self.model, lora["target_modules"])
            fold_into_small(self.model)
            self._remember_start()
        self.model.eval()  # dropout stays off in the policy too, or its log-ratio to the reference would be noise
        self.tokenizer = tokenizer
        self.encode_prompt = PromptEncoder(
            tokenizer, chosen.template or "{0}", chosen.system_prompt, chosen.chat_template_kwargs
        )
        self.sharded, self.temperature = chosen.sharded, chosen.temperature
        self.max_new_tokens, self.batch_size = chosen.max_new_tokens, chosen.batch_size
        self._end_token = end_token(tokenizer, chosen.chat_template_kwargs)
        if not self._end_tokens():
            raise UserError(
                f"model: '{self.name}' should have a token that ends a completion; its chat template, "
                "tokenizer_config.json (eos_token) and generation_config.json (eos_token_id) name none"
            )

    @classmethod
    def from_pretrained(cls, model: str | Path, *, lora: Mapping[str, Any] | None, **settings: Any) -> "LanguageModel":
        """Load from a hub id or a local folder in `from_pretrained` format, an adapter of PEFT merged into its base.

        settings: those of `LanguageModelLoading` and of the class itself. Raises `UserError` if it is none, or not
        whole.
        """
        made_from = {"model": str(model), "lora": lora} | settings
        loading = LanguageModelLoading.pop_from(settings)
        network = load_language_model(model, **loading.fields | {"dtype": getattr(torch, loading.dtype)})
        made = cls(network, load_tokenizer(model, revision=loading.revision), lora=lora, **settings)
        made.made_from = made_from
        return made

    @property
    def network(self) -> Any:
        """The model."""
        return self.model

    def to(self, device: torch.device) -> None:
        """Move the model; where it is sharded, each process of a training keeps its part of the frozen weights."""
        self.model.to(device)
        if self.sharded:
            shard(self.model, (self.model.get_base_model() if self.is_trained else self.model)._no_split_modules)

    @torch.no_grad()
    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Completion]:
        """One completion for each condition, drawn at `temperature` (0: greedy) from the row's own seed."""
        prompts = self._encode(conditions)
        completions: dict[int, Completion] = {}
        for rows in self._batches(prompts, self.batch_size):
            drawn = self._sample_batch([prompts[row] for row in rows], [seeds[row] for row in rows])
            completions.update(zip(rows, drawn, strict=True))
        return [completions[row] for row in range(len(prompts))]

    def _sample_batch(self, prompts: list[list[int]], seeds: Sequence[int]) -> list[Completion]:
        input_ids, mask = self._pad(prompts)
        noise = LogitsProcessorList()
        if self.temperature > 0:
            noise.append(_GumbelNoise(seeds, self.temperature))
        ends = self._end_tokens()
        # A model's own generation settings (a repetition penalty, say) would bend the distribution that is trained.
        plain = GenerationConfig(
            do_sample=False, max_new_tokens=self.max_new_tokens, pad_token_id=PADDING, eos_token_id=ends
        )
        self.model.generation_config, shipped = plain, self.model.generation_config
        try:
            output = self.model.generate(
                input_ids=input_ids,
                attention_mask=mask.long(),
                past_key_values=self._encode_shared(prompts, padding=(~mask).sum(1)),
                logits_processor=noise,
                generation_config=plain,
            )
        finally:
            self.model.generation_config = shipped
        return [self._completion(row.tolist(), ends) for row in output[:, input_ids.shape[1] :].cpu()]

    def decoder(self, conditions: Sequence[tuple[Any, ...]]) -> CachedDecoder | JoinedDecoder:
        """The policy's completions of these prompts, token by token at temperature 1, without gradients."""
        ends = self._end_tokens()
        prompts = self._encode(conditions)
        batches = self._batches(prompts, len(prompts))
        decoders = [
            CachedDecoder(
                self.model,
                self.architecture,
                *self._pad([prompts[row] for row in rows]),
                ends=ends,
                max_length=self.max_new_tokens,
                value=partial(self._completion, ends=ends),
            )
            for rows in batches
        ]
        return decoders[0] if len(decoders) == 1 else JoinedDecoder(decoders, batches)

    def _encode(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Completion] = ()) -> list[list[int]]:
        """Prompts in tokens; raises `UserError` if one and its completion, or the longest one, are too much to read."""
        prompts = [self.encode_prompt(condition) for condition in conditions]
        lengths = [len(value.tokens) for value in values] or [self.max_new_tokens] * len(prompts)
        prompt, completion = max(zip(map(len, prompts), lengths, strict=True), key=sum, default=(0, 0))
        context, known = self.architecture.context, self._vocabulary
        if context is not None and prompt + completion > context:
            raise UserError(
                f"max_new_tokens: {self.max_new_tokens} should leave room for the prompt; a prompt of {prompt} tokens "
                f"and a completion of {completion} are more than the {context} that the model '{self.name}' has "
                "positions for"
            )
        tokens = [*prompts, *(value.tokens for value in values)]
        if (highest := max(map(max, filter(None, tokens)), default=0)) >= known:
            raise UserError(
                f"model: the tokenizer of '{self.name}' should have no token that the model does not know; it gives "
                f"token {highest}, and there are {known}"
            )
        return prompts

    def _batches(self, prompts: list[list[int]], size: int) -> list[list[int]]:
        """Rows that go through the model together: of one length where it cannot be padded."""
        groups: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            groups.setdefault(0 if self.architecture.pads else len(prompt), []).append(row)
        return [rows[start : start + size] for rows in groups.values() for start in range(0, len(rows), size)]

    def _pad(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Token ids, padded in front, and a mask of what is no padding, both `[rows, longest]`.

        Padding anywhere else would move tokens apart that a sliding window, or a bias by distance, has to find near.
        """
        rows = [torch.tensor(prompt) for prompt in prompts]
        input_ids = pad_sequence(rows, batch_first=True, padding_value=PADDING, padding_side="left")
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        mask = torch.arange(input_ids.shape[1]) >= input_ids.shape[1] - lengths[:, None]
        return input_ids.to(self.device), mask.to(self.device)

    def _end_tokens(self) -> list[int]:
        """What ends a turn of the chat template, the tokenizer's end token, and all of the generation settings."""
        shipped = self.model.generation_config.eos_token_id
        named = shipped if isinstance(shipped, list | tuple) else [shipped]
        return sorted({*named, self._end_token, self.tokenizer.eos_token_id} - {None})

    def _completion(self, tokens: list[int], ends: list[int]) -> Completion:
        length = next((index + 1 for index, token in enumerate(tokens) if token in ends), len(tokens))
        tokens = tokens[:length]
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return Completion(text.strip(), tuple(tokens))

    def value_of(self, text: str, folder: Path = Path()) -> Completion:
        """The text as the model would have generated it, or as much of it as it could have."""
        tokens = self.tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
        end = self._end_token if self._end_token is not None else self._end_tokens()[0]
        tokens = [*tokens, end][: self.max_new_tokens]
        return Completion(str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip(), tuple(tokens))

    def recognized(self, value: Completion) -> Completion:
        """The value itself where these tokens are how this model would have generated its text; or else `value_of` it.

        A text may have other tokens than a model that generated it chose, but another model's say nothing here.
        """
        tokens = [token for token in value.tokens if 0 <= token < len(self.tokenizer)]
        same = self._completion(tokens[: self.max_new_tokens], self._end_tokens()) == value
        return value if same else self.value_of(value.text)

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Completion], *, draw: Sequence[int]
    ) -> LogProbs:
        """Sums over the completion's tokens, its end token included, in float32; exact, so `draw` changes nothing."""
        prompts = self._encode(conditions, values)
        if not self.is_trained:
            reference = self._reference_log_probs(prompts, values)
            return LogProbs(reference, reference)
        return LogProbs(self._completion_log_probs(prompts, values), self._reference_log_probs(prompts, values))

    @torch.no_grad()
    def _reference_log_probs(self, prompts: list[list[int]], values: Sequence[Completion]) -> Tensor:
        """The reference stands still: what it says of a completion is computed once.

        Not in half precision, where a batch's padding alone moves a log-probability by tenths of a nat: there policy
        and reference are computed on the same batch. Nor where all processes must call the model equally often.
        """
        keys = [(*prompt, -1, *value.tokens) for prompt, value in zip(prompts, values, strict=True)]
        known = self._references if self.model.dtype == torch.float32 and not self.sharded else {}
        if new := [row for row, key in enumerate(keys) if key not in known]:
            with self._as_reference():
                computed = self._completion_log_probs([prompts[row] for row in new], [values[row] for row in new])
            known.update(zip([keys[row] for row in new], computed, strict=True))
        return torch.stack([known[key] for key in keys])

    def _completion_log_probs(self, prompts: list[list[int]], values: Sequence[Completion]) -> Tensor:
        # Layers that compute again keep no keys and values, and policy and reference must come about alike; processes
        # that share weights must call the model equally often, whatever their prompts have in common.
        cache = None if self._recomputed or self.sharded else self._encode_shared(prompts)
        skipped = 0 if cache is None else cache.get_seq_length()
        rows = [torch.tensor([*prompt, *value.tokens][skipped:]) for prompt, value in zip(prompts, values, strict=True)]
        # Right padding under causal attention cannot reach back, so no attention mask is needed.
        input_ids = pad_sequence(rows, batch_first=True, padding_value=PADDING).to(self.device)
        first = torch.tensor([len(prompt) - skipped for prompt in prompts], device=self.device)[:, None]
        last = torch.tensor([len(row) for row in rows], device=self.device)[:, None]
        # Scoring only positions that can predict a completion token is most of the saving on large vocabularies.
        earliest = min(map(len, prompts)) - skipped
        kept = torch.arange(earliest - 1, input_ids.shape[1] - 1, device=self.device)
        with recomputing(self._recomputed):
            caching = {"use_cache": False} if cache is None else {"past_key_values": cache}
            logits = self.model(input_ids=input_ids, logits_to_keep=kept, **caching).logits.float()
        targets = input_ids[:, kept + 1]
        token_log_probs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        in_completion = (kept + 1 >= first) & (kept + 1 < last)
        return (token_log_probs * in_completion).sum(-1)

    def _encode_shared(self, prompts: list[list[int]], padding: Tensor | None = None) -> Any:
        """Keys and values of what all prompts begin with (instructions, examples), computed once; None if not worth it.

        padding: how many tokens `[rows]` stand in front of each row; as many keys and values stand in front of its own,
        of which it loses the last, so that they still end where the others do.
        """
        shared = _shared_prefix(prompts)
        if not self.architecture.shares or shared < WORTH_SHARING or len(prompts) == 1:
            return None
        prefix = torch.tensor(prompts[0][:shared], device=self.device)
        cache = self.architecture.new_cache()
        self.model(input_ids=prefix[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
        if padding is None:
            cache.batch_repeat_interleave(len(prompts))
            return cache
        index = (torch.arange(shared, device=self.device) - padding[:, None]).clamp_min(0)
        for layer in filter(DynamicLayer.get_seq_length, cache.layers):
            layer.keys, layer.values = (states[0][:, index].movedim(1, 0) for states in (layer.keys, layer.values))
        return cache

    @torch.no_grad()
    def drift(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Completion], *, draw: Sequence[int]
    ) -> Drift:
        """Log-ratios, whose mean over draws is the KL divergence itself, and `−log p`; `draw` changes nothing."""
        prompts = self._encode(conditions, values)
        policy = self._completion_log_probs(prompts, values)
        with self._as_reference():
            reference = self._completion_log_probs(prompts, values)
        return Drift(policy - reference, -policy)

    def _remove_reference(self) -> None:
        self.model.delete_adapter(REFERENCE)

    def _add_reference(self) -> None:
        self.model.add_adapter(REFERENCE, self.model.peft_config[POLICY])

    def save(self, folder: Path) -> None:
        """Write the policy's adapter in PEFT's format (safetensors)."""
        settings = self.model.peft_config[POLICY]
        for name, value in vars(settings).items():
            if isinstance(value, set):  # has no order: sorted, equal adapters are equal files
                setattr(settings, name, sorted(value))
        self.model.save_pretrained(folder, selected_adapters=[POLICY], safe_serialization=True)

    def save_adapter(self, folder: Path, *, base: str) -> None:
        """Write the adapter as `save` does, with this name of its base model."""
        self.save(folder)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's card names the folder that the base came from
        settings = folder / CONFIG_NAME
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"base_model_name_or_path": base}, indent=2))

    def save_model(self, folder: Path, *, merged: bool) -> None:
        """Write model and tokenizer in `from_pretrained` format.

        With the adapter in its weights, the model's generation settings are those that it was trained with: its own, a
        repetition penalty say, would bend what it learnt. Raises `UserError` where its weights are held in four bits.
        """
        network = whole_language_model(self.model, self.name, merged=merged)
        if merged:
            drawn = {"temperature": self.temperature, "top_k": 0, "top_p": 1.0} if self.temperature > 0 else {}
            network.generation_config = GenerationConfig(
                do_sample=self.temperature > 0,
                max_new_tokens=self.max_new_tokens,
                eos_token_id=self._end_tokens(),
                pad_token_id=self.tokenizer.pad_token_id,
                bos_token_id=self.tokenizer.bos_token_id,
                **drawn,
            )
        network.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)

    def usage(self, condition: tuple[Any, ...], *, model: str, adapter: str | None = None) -> Usage:
        """How transformers, and PEFT for the adapter, complete the prompt of a condition."""
        generation: dict[str, Any] = {}
        if adapter is not None:  # the base model's own settings hold there
            generation |= {"max_new_tokens": self.max_new_tokens, "eos_token_id": self._end_tokens()}
            if getattr(self.model.generation_config, "repetition_penalty", None) not in (None, 1.0):
                generation["repetition_penalty"] = 1.0
        return language_usage(
            self.encode_prompt.readable(condition),
            model=model,
            adapter=adapter,
            behind=self.encode_prompt.behind,
            chat_template_kwargs=self.encode_prompt.chat_template_kwargs,
            generation=generation,
            rounds_to=None if self.model.dtype == torch.float32 else str(self.model.dtype).removeprefix("torch."),
        )

    def load(self, folder: Path) -> None:
        """Read an adapter in PEFT's format into the policy; raises `UserError` if it does not fit."""
        before = self._policy_shapes()
        self.model.delete_adapter(POLICY)
        load_pretrained(self.model.load_adapter, folder, adapter_name=POLICY, is_trainable=True, what="adapter")
        self.model.set_adapter(POLICY)
        check_same_weights(before, self._policy_shapes(), folder)


def _shared_prefix(prompts: list[list[int]]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own to predict from."""
    low, high, most = min(prompts), max(prompts), min(map(len, prompts)) - 1
    return next((index for index in range(most) if low[index] != high[index]), most)


class _GumbelNoise(LogitsProcessor):
    """Turns `generate`'s argmax into an exact draw whose noise depends on the row's seed alone.

    That is the Gumbel-max trick with `-log E` for the noise, `E` exponential: small `E` come in steps of about 1e-16,
    so that tokens down to such probabilities are drawn as often as they should be.
    """

    def __init__(self, seeds: Sequence[int], temperature: float):
        self.generators = [numpy_generator("completion", seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        noise = np.empty(scores.shape, dtype=np.float32)
        drawn = np.empty(scores.shape[1])
        for row, generator in zip(noise, self.generators, strict=True):
            generator.standard_exponential(out=drawn)
            row[:] = drawn
        gumbel = torch.from_numpy(noise).to(scores.device).clamp_min_(SMALLEST).log_().neg_()
        return scores.float() / self.temperature + gumbel
