"""A causal language model at a node: transformers for the model, PEFT for what is trained."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SuppressTokensLogitsProcessor,
)
from transformers.cache_utils import DynamicLayer

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.components.adapted_model import AdaptedModel
from sysdpo.components.architectures import architecture_of
from sysdpo.components.decoding import CachedDecoder, JoinedDecoder
from sysdpo.components.loading import load_language_model, load_tokenizer
from sysdpo.components.prompting import PromptEncoder, end_token
from sysdpo.components.recomputing import recomputing
from sysdpo.components.settings import CompletionSettings, LanguageModelLoading, TrainingMemory
from sysdpo.components.sharding import shard
from sysdpo.components.usage import language_usage
from sysdpo.components.whole_models import whole_language_model
from sysdpo.method.component import Drift, LogProbs, Usage
from sysdpo.method.values import Completion

WORTH_SHARING = 16  # tokens; encoding a shorter prefix apart costs more than it saves
PADDING = 0  # any token will do: what is padding is never read
SMALLEST = 2.0**-54  # half the smallest step of the noise, instead of a zero whose logarithm would always win


class LanguageModel(AdaptedModel):
    """`p_θ(completion | prompt)` of a causal language model with a LoRA adapter, or frozen where `lora` is None.

    The prompt is `template.format(*condition)`, passed through the tokenizer's chat template where it has one, after
    the system message `system_prompt.format(*condition)` where that is not empty. The reference is the same network
    with the adapter off, or, once rebased, with a frozen copy of the adapter; the adapter's weights are float32.

    model: a causal language model of transformers.
    tokenizer: that of the model.
    lora: arguments of PEFT's `LoraConfig`; None freezes the model.
    settings: fields of `CompletionSettings`; without a template it is `"{0}"`, the node's first input.

    Raises `UserError` for a wrong setting, for a model that cannot be run in batches as it is run on one text (see
    `architecture_of`), for one without an end token, and, in use, for a prompt and completion longer than its context.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        lora: Mapping[str, Any] | None,
        **settings: Any,
    ):
        chosen = CompletionSettings(**settings)
        self.name, self._vocabulary = model.name_or_path, model.get_input_embeddings().weight.shape[0]
        self.architecture = architecture_of(model)
        memory = {name: getattr(chosen, name) for name in TrainingMemory.model_fields}
        super().__init__(model, lora=lora, task="CAUSAL_LM", **memory)
        self.tokenizer = tokenizer
        self.encode_prompt = PromptEncoder(
            tokenizer, chosen.template or "{0}", chosen.system_prompt, chosen.chat_template_kwargs
        )
        self.temperature, self.max_new_tokens = chosen.temperature, chosen.max_new_tokens
        self.batch_size = chosen.batch_size
        self._end_token = end_token(tokenizer, chosen.chat_template_kwargs)
        if not self._end_tokens():
            raise UserError(
                f"model: '{self.name}' should have a token that ends a completion; its chat template, "
                "tokenizer_config.json (eos_token) and generation_config.json (eos_token_id) name none"
            )

    @classmethod
    def from_pretrained(cls, model: str | Path, *, lora: Mapping[str, Any] | None, **settings: Any) -> "LanguageModel":
        """Load from a hub id or a local folder in `from_pretrained` format; an adapter of PEFT is merged into its base.

        model: the hub id or folder. lora: as for the class. settings: fields of `LanguageModelLoading` and of
        `CompletionSettings`.

        Raises `UserError` if it is not such a model, if weights are missing, or as the class does.
        """
        made_from = {"model": str(model), "lora": lora} | settings
        loading = LanguageModelLoading.pop_from(settings)
        network = load_language_model(model, **loading.fields | {"dtype": getattr(torch, loading.dtype)})
        made = cls(network, load_tokenizer(model, revision=loading.revision), lora=lora, **settings)
        made.made_from = made_from
        return made

    def to(self, device: torch.device) -> None:
        """Move the model; where it is sharded, each process of a training keeps its part of the frozen weights."""
        self.model.to(device)
        if self.sharded:
            shard(self.model, (self.model.get_base_model() if self.is_trained else self.model)._no_split_modules)

    @property
    def reads(self) -> str:
        """Its template and system prompt."""
        return self.encode_prompt.template + self.encode_prompt.system_prompt

    @torch.no_grad()
    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Completion]:
        """One completion for each condition, drawn at `temperature` (0 is greedy) from the row's own seed."""
        prompts = self._encode(conditions)
        completions: dict[int, Completion] = {}
        for rows in self._batches(prompts, self.batch_size):
            drawn = self._sample_batch([prompts[row] for row in rows], [seeds[row] for row in rows])
            completions.update(zip(rows, drawn, strict=True))
        return [completions[row] for row in range(len(prompts))]

    def _sample_batch(self, prompts: list[list[int]], seeds: Sequence[int]) -> list[Completion]:
        input_ids, mask = self._pad(prompts)
        cache = self._encode_shared(prompts, padding=(~mask).sum(1))
        inputs = {"input_ids": input_ids, "attention_mask": mask.long(), "past_key_values": cache}
        return self._generate(inputs, seeds, padding=PADDING)

    def _generate(
        self, inputs: Mapping[str, Any], seeds: Sequence[int], *, padding: int, never: Sequence[int] = ()
    ) -> list[Completion]:
        """Completions of what the model is given, padded in front. never: tokens that are not generated."""
        changes = LogitsProcessorList()
        if never:
            changes.append(SuppressTokensLogitsProcessor(list(never), device=self.device))
        if self.temperature > 0:
            changes.append(GumbelNoise(seeds, self.temperature))
        ends = self._end_tokens()
        # A model's own generation settings (a repetition penalty, say) would bend the distribution that is trained.
        plain = GenerationConfig(
            do_sample=False, max_new_tokens=self.max_new_tokens, pad_token_id=padding, eos_token_id=ends
        )
        self.model.generation_config, shipped = plain, self.model.generation_config
        try:
            output = self.model.generate(**inputs, logits_processor=changes, generation_config=plain)
        finally:
            self.model.generation_config = shipped
        return [self._completion(row.tolist(), ends) for row in output[:, inputs["input_ids"].shape[1] :].cpu()]

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
        """The token ids of prompts; raises `UserError` if one and its completion are longer than the context.

        values: their completions; without them the longest possible ones are assumed.
        """
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
        """The numbers of rows that go through the model together: of the same length if it cannot be padded."""
        groups: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            groups.setdefault(0 if self.architecture.pads else len(prompt), []).append(row)
        return [rows[start : start + size] for rows in groups.values() for start in range(0, len(rows), size)]

    def _pad(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Token ids, padded in front, and a mask that is True where there is no padding, both `[rows, longest]`.

        Padding elsewhere would change the distances between tokens that sliding windows and biases by distance use.
        """
        rows = [torch.tensor(prompt) for prompt in prompts]
        input_ids = pad_sequence(rows, batch_first=True, padding_value=PADDING, padding_side="left")
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        mask = torch.arange(input_ids.shape[1]) >= input_ids.shape[1] - lengths[:, None]
        return input_ids.to(self.device), mask.to(self.device)

    def _end_tokens(self) -> list[int]:
        """The ids of the chat template's and the tokenizer's end tokens, and those of the generation settings."""
        shipped = self.model.generation_config.eos_token_id
        named = shipped if isinstance(shipped, list | tuple) else [shipped]
        return sorted({*named, self._end_token, self.tokenizer.eos_token_id} - {None})

    def _completion(self, tokens: list[int], ends: list[int]) -> Completion:
        length = next((index + 1 for index, token in enumerate(tokens) if token in ends), len(tokens))
        tokens = tokens[:length]
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return Completion(text.strip(), tuple(tokens))

    def value_of(self, text: str, folder: Path = Path()) -> Completion:
        """The text as a completion that the model could have generated, cut to `max_new_tokens`."""
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
        """Sums over the completion's tokens, end token included: float32 `[batch]`, nats; `draw` has no effect."""
        prompts = self._encode(conditions, values)
        if not self.is_trained:
            reference = self._reference_log_probs(prompts, values)
            return LogProbs(reference, reference)
        return LogProbs(self._completion_log_probs(prompts, values), self._reference_log_probs(prompts, values))

    def _identity(self, prompt: Any) -> tuple[Any, ...]:
        """Equal for equal prompts."""
        return tuple(prompt)

    @torch.no_grad()
    def _reference_log_probs(self, prompts: list[list[int]], values: Sequence[Completion]) -> Tensor:
        """The reference stands still: what it says of a completion is computed once.

        Not in half precision, where a batch's padding alone moves a log-probability by tenths of a nat: there policy
        and reference are computed on the same batch. Nor where all processes must call the model equally often.
        """
        keys = [(*self._identity(prompt), -1, *value.tokens) for prompt, value in zip(prompts, values, strict=True)]
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

        padding: the number of padding tokens in front of each row, `[rows]`. Its keys and values are moved back by as
        many, so that they end where those of the other rows do.
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
        """Log-ratios, whose mean over draws estimates the KL divergence, and `−log p`; `draw` has no effect."""
        prompts = self._encode(conditions, values)
        policy = self._completion_log_probs(prompts, values)
        with self._as_reference():
            reference = self._completion_log_probs(prompts, values)
        return Drift(policy - reference, -policy)

    def save_model(self, folder: Path, *, merged: bool) -> None:
        """Write model and tokenizer in `from_pretrained` format.

        A merged model gets the generation settings that it was trained with: its own, a repetition penalty for example,
        would change what it learnt. Raises `UserError` if its weights are held in four bits.
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
        self._write_reader(folder)

    def _write_reader(self, folder: Path) -> None:
        """Write what turns prompts into tokens."""
        self.tokenizer.save_pretrained(folder)

    def usage(self, condition: tuple[Any, ...], *, model: str, adapter: str | None = None) -> Usage:
        """How transformers, and PEFT for the adapter, complete the prompt of a condition."""
        return language_usage(
            self.encode_prompt.readable(condition),
            model=model,
            adapter=adapter,
            behind=self.encode_prompt.behind,
            chat_template_kwargs=self.encode_prompt.chat_template_kwargs,
            generation=self._generation(adapter),
            rounds_to=None if self.model.dtype == torch.float32 else str(self.model.dtype).removeprefix("torch."),
        )

    def _generation(self, adapter: str | None) -> dict[str, Any]:
        """What `generate` must be told: beside an adapter the base model's own settings hold."""
        if adapter is None:
            return {}
        told: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "eos_token_id": self._end_tokens()}
        if getattr(self.model.generation_config, "repetition_penalty", None) not in (None, 1.0):
            told["repetition_penalty"] = 1.0
        return told


def _shared_prefix(prompts: list[list[int]]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own to predict from."""
    low, high, most = min(prompts), max(prompts), min(map(len, prompts)) - 1
    return next((index for index in range(most) if low[index] != high[index]), most)


class GumbelNoise(LogitsProcessor):
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
