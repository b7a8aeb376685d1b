"""Pretraining small Llamas on prompts with their completions."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sysdpo.applications.fitting import fit
from sysdpo.applications.settings import SmallLlamaSettings
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.seeds import seed_torch

MAX_LENGTH = 64
"""Tokens of prompt and completion together."""

IGNORED = -100

Example = tuple[Tensor, Tensor]
"""Token ids and labels, both int64 `[length]`; labels are `IGNORED` for the prompt."""


def small_llama(
    tokenizer: PreTrainedTokenizerFast, *, width: int, layers: int, initializer_range: float
) -> LlamaForCausalLM:
    """An untrained Llama with this tokenizer's vocabulary; its weights come from torch's global generator."""
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
    """Pairs of prompt and completion as examples that end with the end token; batching halves the tokenizer's time."""
    prompts, completions = zip(*pairs, strict=True)
    prompted = tokenizer(list(prompts))["input_ids"]
    answered = [
        [*row, tokenizer.eos_token_id] for row in tokenizer(list(completions), add_special_tokens=False)["input_ids"]
    ]
    return [
        (torch.tensor(prompt + completion), torch.tensor([IGNORED] * len(prompt) + completion))
        for prompt, completion in zip(prompted, answered, strict=True)
    ]


def make_small_llama(
    name: str,
    settings: SmallLlamaSettings,
    words: Iterable[str],
    pairs: Sequence[tuple[str, str]],
    seed: int,
    rng: np.random.Generator,
    folder: Path,
) -> None:
    """Pretrain a small Llama on prompts and completions; save it to `folder`, in `from_pretrained` format.

    Minimises the cross-entropy of the completions of `pairs`. words: texts with every word of its vocabulary. seed: of
    the first weights. rng: draws the batches.
    """
    seed_torch(name, seed)
    tokenizer = make_tokenizer(words, template="<s> $A", max_length=MAX_LENGTH)
    model = small_llama(
        tokenizer, width=settings.width, layers=settings.layers, initializer_range=settings.initializer_range
    )
    examples = tokenized(tokenizer, pairs)

    def loss(step: int) -> Tensor:
        batch = [examples[index] for index in rng.integers(len(examples), size=settings.batch_size)]
        rows, labels = zip(*batch, strict=True)
        input_ids = pad_sequence(list(rows), batch_first=True, padding_value=tokenizer.pad_token_id)
        targets = pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)
        return model(input_ids=input_ids, labels=targets).loss

    fit(name, model, loss, steps=settings.steps, learning_rate=settings.learning_rate)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
