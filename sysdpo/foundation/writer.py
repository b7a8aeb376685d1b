"""Pretraining the writer: a small Llama that answers a request with three captions, often in a poor order."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sysdpo.foundation.fitting import fit
from sysdpo.foundation.grammar import CAPTIONS, PROMPT_END, SEPARATOR, Request, requests
from sysdpo.foundation.tokenizer import make_tokenizer
from sysdpo.foundation.world import WriterSettings, answer

IGNORED = -100


def make_writer(settings: WriterSettings, seed: int, folder: Path, known: list[Request] | None = None) -> None:
    """Pretrain the writer on `known` requests (default: all) and save it to `folder`, in `from_pretrained` format."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    known = requests() if known is None else known
    words = [request.text for request in requests()] + [SEPARATOR + PROMPT_END, *CAPTIONS]
    tokenizer = make_tokenizer(words, template="<s> $A", max_length=64)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=3 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.width // 16,
            num_key_value_heads=settings.width // 16,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            initializer_range=settings.initializer_range,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )

    examples = [_example(tokenizer, known[row % len(known)], settings, rng) for row in range(settings.answers)]

    def loss(step: int) -> Tensor:
        batch = [examples[index] for index in rng.integers(len(examples), size=settings.batch_size)]
        rows, labels = zip(*batch, strict=True)
        input_ids = pad_sequence(list(rows), batch_first=True, padding_value=tokenizer.pad_token_id)
        targets = pad_sequence(list(labels), batch_first=True, padding_value=IGNORED)
        return model(input_ids=input_ids, labels=targets).loss

    fit("writer", model, loss, steps=settings.steps, learning_rate=settings.learning_rate)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _example(
    tokenizer: PreTrainedTokenizerFast, request: Request, settings: WriterSettings, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Token ids and labels of one request and its answer; the labels ignore the request."""
    prompt = tokenizer(request.text + PROMPT_END)["input_ids"]
    completion = tokenizer(answer(request, settings, rng), add_special_tokens=False)["input_ids"]
    completion = [*completion, tokenizer.eos_token_id]
    return torch.tensor(prompt + completion), torch.tensor([IGNORED] * len(prompt) + completion)
