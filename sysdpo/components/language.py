"""A causal language model at a node: transformers for the model, PEFT for what is trained."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from sysdpo.components.decoding import CachedDecoder
from sysdpo.components.loading import add_lora, check_same_weights, four_bit, load_pretrained
from sysdpo.components.prompting import PromptEncoder
from sysdpo.components.sharding import gathered, shard
from sysdpo.system import LogProbs
from sysdpo.values import Completion

POLICY, REFERENCE = "default", "reference"
WORTH_SHARING = 16  # tokens; encoding a shorter prefix apart costs more than it saves


class LanguageModel:
    """`p_θ(completion | prompt)` of a causal language model with a LoRA adapter.

    The prompt is `template.format(*condition)`, passed through the tokenizer's chat template where it has one, after
    the system message `system_prompt.format(*condition)` where that is not empty. The reference is the same network
    with the adapter off, or, once rebased, with a frozen copy of the adapter; the adapter's weights are float32.
    `gradient_checkpointing` and `sharded` are as in `LanguageModelSettings`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        lora: Mapping[str, Any],
        template: str = "{0}",
        system_prompt: str | None = None,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        batch_size: int = 256,
        gradient_checkpointing: bool = False,
        sharded: bool = False,
    ):
        if gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._checkpointed = [part for part in model.modules() if getattr(part, "gradient_checkpointing", False)]
        model.requires_grad_(False)
        config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **lora)
        self.model: PeftModel = add_lora(partial(get_peft_model, model), config)
        self.model.eval()  # dropout stays off in the policy too, or its log-ratio to the reference would be noise
        self.tokenizer = tokenizer
        self.encode_prompt = PromptEncoder(tokenizer, template, system_prompt)
        self.sharded = sharded
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.batch_size = batch_size
        self._references: dict[tuple[int, ...], Tensor] = {}
        self.pad_id = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        load_in_4bit: bool = False,
        **settings: Any,
    ) -> "LanguageModel":
        """Load from a hub id or a local folder in `from_pretrained` format; raises `UserError` if it is none."""
        number = getattr(torch, dtype)
        quantized = {"quantization_config": four_bit(number)} if load_in_4bit else {}
        load = AutoModelForCausalLM.from_pretrained
        network = load_pretrained(load, model, revision=revision, dtype=number, **quantized)
        return cls(network, load_pretrained(AutoTokenizer.from_pretrained, model, revision=revision), **settings)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    def to(self, device: torch.device) -> None:
        """Move the model; where it is sharded, each process of a training keeps its part of the frozen weights."""
        self.model.to(device)
        if self.sharded:
            shard(self.model, self.model.get_base_model()._no_split_modules)

    def gathered(self) -> AbstractContextManager[None]:
        """Within it each process has the whole model and may use it without the others."""
        return gathered(self.model)

    @torch.no_grad()
    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Completion]:
        """One completion for each condition, drawn at `temperature` (0: greedy) from the row's own seed."""
        completions: list[Completion] = []
        for start in range(0, len(conditions), self.batch_size):
            rows = slice(start, start + self.batch_size)
            completions += self._sample_batch(conditions[rows], seeds[rows])
        return completions

    def _sample_batch(self, conditions: Sequence[tuple[Any, ...]], seeds: Sequence[int]) -> list[Completion]:
        input_ids, mask, shared = self._pad_prompts(conditions)
        noise = LogitsProcessorList()
        if self.temperature > 0:
            noise.append(_GumbelNoise(seeds, self.temperature))
        ends = self._end_tokens()
        # A model's own generation settings (a repetition penalty, say) would bend the distribution that is trained.
        plain = GenerationConfig(
            do_sample=False, max_new_tokens=self.max_new_tokens, pad_token_id=self.pad_id, eos_token_id=ends
        )
        self.model.generation_config, shipped = plain, self.model.generation_config
        try:
            output = self.model.generate(
                input_ids=input_ids,
                attention_mask=mask.long(),
                past_key_values=self._encode_shared(input_ids[0, :shared], len(input_ids)) if shared else None,
                logits_processor=noise,
                generation_config=plain,
            )
        finally:
            self.model.generation_config = shipped
        return [self._completion(row.tolist(), ends) for row in output[:, input_ids.shape[1] :].cpu()]

    def decoder(self, conditions: Sequence[tuple[Any, ...]]) -> CachedDecoder:
        """The policy's completions of these prompts, token by token at temperature 1, without gradients."""
        ends = self._end_tokens()
        input_ids, mask, _ = self._pad_prompts(conditions)
        return CachedDecoder(
            self.model,
            input_ids,
            mask,
            ends=ends,
            max_length=self.max_new_tokens,
            value=partial(self._completion, ends=ends),
        )

    def _pad_prompts(self, conditions: Sequence[tuple[Any, ...]]) -> tuple[Tensor, Tensor, int]:
        """Token ids, padded in front of what is each prompt's own, a mask of what is no padding, and how many tokens
        of a prefix that all share come first (0 where it is not worth encoding apart).
        """
        prompts = [self.encode_prompt(condition) for condition in conditions]
        shared = _shared_prefix(prompts)
        shared = shared if shared >= WORTH_SHARING else 0
        own = [torch.tensor(prompt[shared:]) for prompt in prompts]
        padded = pad_sequence(own, batch_first=True, padding_value=self.pad_id, padding_side="left")
        lengths = torch.tensor([len(each) for each in own])
        mask = torch.arange(padded.shape[1]) >= padded.shape[1] - lengths[:, None]
        prefix = torch.tensor(prompts[0][:shared], dtype=padded.dtype).expand(len(prompts), shared)
        input_ids = torch.cat([prefix, padded], 1)
        mask = torch.cat([torch.ones(prefix.shape, dtype=torch.bool), mask], 1)
        return input_ids.to(self.device), mask.to(self.device), shared

    def _end_tokens(self) -> list[int]:
        """The tokenizer's end token and every one that the model's generation settings name."""
        shipped = self.model.generation_config.eos_token_id
        named = [] if shipped is None else [shipped] if isinstance(shipped, int) else list(shipped)
        return sorted({*named, self.tokenizer.eos_token_id} - {None})

    def _completion(self, tokens: list[int], ends: list[int]) -> Completion:
        length = next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))
        tokens = tokens[:length]
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return Completion(text.strip(), tuple(tokens))

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Completion], *, draw: Sequence[int]
    ) -> LogProbs:
        """Sums over the completion's tokens, its end token included, in float32; exact, so `draw` changes nothing."""
        prompts = [self.encode_prompt(condition) for condition in conditions]
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
        shared = _shared_prefix(prompts)
        prefix = torch.tensor(prompts[0][:shared], device=self.device)
        # Checkpointed layers keep no keys and values, and the reference must come about as the policy does.
        worth = shared >= WORTH_SHARING and not self._checkpointed
        cache = self._encode_shared(prefix, len(prompts)) if worth else None
        skipped = shared if cache else 0
        rows = [torch.tensor([*prompt, *value.tokens][skipped:]) for prompt, value in zip(prompts, values, strict=True)]
        # Right padding under causal attention cannot reach back, so no attention mask is needed.
        input_ids = pad_sequence(rows, batch_first=True, padding_value=self.pad_id).to(self.device)
        first = torch.tensor([len(prompt) - skipped for prompt in prompts], device=self.device)[:, None]
        last = torch.tensor([len(row) for row in rows], device=self.device)[:, None]
        # Scoring only positions that can predict a completion token is most of the saving on large vocabularies.
        kept = torch.arange(int(first.min()) - 1, input_ids.shape[1] - 1, device=self.device)
        with self._checkpointing():
            logits = self.model(input_ids=input_ids, past_key_values=cache, logits_to_keep=kept).logits.float()
        targets = input_ids[:, kept + 1]
        token_log_probs = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        in_completion = (kept + 1 >= first) & (kept + 1 < last)
        return (token_log_probs * in_completion).sum(-1)

    @contextmanager
    def _checkpointing(self) -> Iterator[None]:
        """Layers recompute their activations only when they are told that they train; no dropout is below them."""
        for layer in self._checkpointed:
            layer.training = torch.is_grad_enabled()
        try:
            yield
        finally:
            for layer in self._checkpointed:
                layer.training = False

    def _encode_shared(self, prefix: Tensor, rows: int) -> Any:
        """Keys and values of a prefix `[length]` that all rows begin with (instructions, examples), computed once."""
        cache = self.model(input_ids=prefix[None], use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(rows)
        return cache

    def in_nats(self) -> AbstractContextManager[None]:
        """Its log-probabilities always are."""
        return nullcontext()

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The policy adapter's weights."""
        return [weight for _, weight in self._policy_weights()]

    def _policy_weights(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, weight) for name, weight in self.model.named_parameters() if f".{POLICY}." in name]

    @contextmanager
    def _as_reference(self) -> Iterator[None]:
        rebased = REFERENCE in self.model.peft_config
        with nullcontext() if rebased else self.model.disable_adapter():
            if rebased:
                self.model.set_adapter(REFERENCE)
            try:
                yield
            finally:
                if rebased:
                    self.model.set_adapter(POLICY)

    def rebase_reference(self) -> None:
        """Make the present policy the reference, at the cost of a second adapter."""
        if REFERENCE not in self.model.peft_config:
            self.model.add_adapter(REFERENCE, self.model.peft_config[POLICY])
        weights = get_peft_model_state_dict(self.model, adapter_name=POLICY)
        set_peft_model_state_dict(self.model, weights, adapter_name=REFERENCE)
        self.model.set_adapter(POLICY)
        self._references.clear()

    def save(self, folder: Path) -> None:
        """Write the policy's adapter in PEFT's format (safetensors)."""
        self.model.save_pretrained(folder, selected_adapters=[POLICY], safe_serialization=True)

    def load(self, folder: Path) -> None:
        """Read an adapter in PEFT's format into the policy; raises `UserError` if it does not fit."""
        before = self._policy_shapes()
        self.model.delete_adapter(POLICY)
        load_pretrained(self.model.load_adapter, folder, adapter_name=POLICY, is_trainable=True, what="adapter")
        self.model.set_adapter(POLICY)
        check_same_weights(before, self._policy_shapes(), folder)

    def _policy_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(weight.shape) for name, weight in self._policy_weights()}


def _shared_prefix(prompts: list[list[int]]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own to predict from."""
    low, high, most = min(prompts), max(prompts), min(map(len, prompts)) - 1
    return next((place for place in range(most) if low[place] != high[place]), most)


class _GumbelNoise(LogitsProcessor):
    """Turns `generate`'s argmax into an exact draw whose noise depends on the row's seed alone (Gumbel-max)."""

    def __init__(self, seeds: Sequence[int], temperature: float):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        noise = torch.stack([torch.rand(scores.shape[-1], generator=each) for each in self.generators])
        gumbel = -torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        return scores.float() / self.temperature + gumbel.to(scores.device)
