"""A small Llama, and pretraining it on prompts with their completions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sysdpo.applications.fitting import fit

MAX_LENGTH = 64
"""Tokens of prompt and completion together."""

IGNORED = -100

Example = tuple[Tensor, Tensor]
"""Token ids and labels, both int64 `[length]`; the labels ignore the prompt."""


def small_llama(
    tokenizer: PreTrainedTokenizerFast, *, width: int, layers: int, initializer_range: float
) -> LlamaForCausalLM:
    """An untrained Llama for this tokenizer's words; its weights come from torch's global random stream."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 16,
            num_key_value_heads=width // 16,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            initializer_range=initializer_range,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tokenized(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]) -> list[Example]:
    """Prompts, each with its completion and the end token; all at once, which takes half the time of one by one."""
    prompts, completions = zip(*pairs, strict=True)
    given = tokenizer(list(prompts))["input_ids"]
    answered = [
        [*row, tokenizer.eos_token_id] for row in tokenizer(list(completions), add_special_tokens=False)["input_ids"]
    ]
    return [
        (torch.tensor(before + after), torch.tensor([IGNORED] * len(before) + after))
        for before, after in zip(given, answered, strict=True)
    ]


def fit_language(
    name: str,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[tuple[str, str]],
    rng: np.random.Generator,
    folder: Path,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
) -> None:
    """Minimise the cross-entropy of the completions of `pairs`, and save model and tokenizer to `folder`, in
    `from_pretrained` format.
    """
    examples = tokenized(tokenizer, pairs)

    def loss(step: int) -> Tensor:
        batch = [examples[index] for index in rng.integers(len(examples), size=batch_size)]
        rows, labels = zip(*batch, strict=True)
        input_ids = pad_sequence(list(rows), batch_first=True, padding_value=tokenizer.pad_token_id)
        targets = pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)
        return model(input_ids=input_ids, labels=targets).loss

    fit(name, model, loss, steps=steps, learning_rate=learning_rate)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
