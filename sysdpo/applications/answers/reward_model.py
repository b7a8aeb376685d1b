"""A reward model: a sequence classifier with one label that scores answers to questions."""

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sysdpo.applications.pretrained import in_batches, load_judge
from sysdpo.base.errors import UserError
from sysdpo.components.architectures import context_length
from sysdpo.components.loading import load_pretrained
from sysdpo.components.prompting import conversation


class RewardModel:
    """Rewards are the model's single output, on its own scale; it runs on the GPU if there is one.

    The input is the conversation in the tokenizer's chat template, or without one, question and answer as a pair of
    texts, as for OpenAssistant's DeBERTa models. In a pair, or if the template refuses system messages, the system
    message is put before the question (our choice).

    model: a hub id or folder, revision: of the hub id. max_length: in tokens, capped by the model's positions and its
    tokenizer's limit; a longer conversation is cut at the start, since the reward is read at its end, a longer pair at
    the end of the longer text. Raises `UserError` if the model cannot be loaded or does not have exactly one label.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        batch_size: int = 16,
        dtype: str = "float32",
        max_length: int = 2048,
    ):
        self.model = model
        load = AutoModelForSequenceClassification.from_pretrained
        self.network = load_judge(load, model, revision=revision, dtype=dtype)
        config = self.network.config
        if config.num_labels != 1:
            raise UserError(f"model: '{model}' has {config.num_labels} labels, but a reward model should have 1")
        self.tokenizer = load_pretrained(AutoTokenizer.from_pretrained, model, revision=revision)
        self.pad_id = config.get_text_config().pad_token_id
        # A decoder without a padding token reads the reward at each row's last token, so its rows cannot be padded.
        self.batch_size = 1 if self.pad_id is None else batch_size
        self.max_length = min(max_length, _positions(self.network), self.tokenizer.model_max_length)

    def score(self, systems: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """The reward of each answer to its question under its system message (empty: none), `[n]`.

        Equal conversations get equal rewards, whatever shares their batch.
        """
        encode = self._conversation if self.tokenizer.chat_template else self._pair
        encoded = [encode(*row) for row in zip(systems, questions, answers, strict=True)]
        # Sorted by length: a batch is padded to its longest row.
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]["input_ids"]))
        rewards = np.empty(len(encoded))
        if encoded:
            rows = [encoded[row] for row in order]
            rewards[order] = in_batches(self._rewards, rows, self.batch_size, key=_row_key).numpy()
        return rewards

    def _conversation(self, system: str, question: str, answer: str) -> Mapping[str, list[int]]:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if system:
            turns.insert(0, {"role": "system", "content": system})
        try:
            tokens = conversation(self.tokenizer, turns, self.model)
        except UserError:
            if not system:
                raise
            return self._conversation("", _in_one(system, question), answer)
        return {"input_ids": tokens[-self.max_length :]}

    def _pair(self, system: str, question: str, answer: str) -> Mapping[str, list[int]]:
        return self.tokenizer(_in_one(system, question), answer, truncation=True, max_length=self.max_length)

    def _rewards(self, rows: Sequence[Mapping[str, list[int]]]) -> Tensor:
        tokens = [torch.tensor(row["input_ids"]) for row in rows]
        filled = [torch.ones_like(row) for row in tokens]
        padded = {
            "input_ids": pad_sequence(tokens, batch_first=True, padding_value=self.pad_id or 0),
            "attention_mask": pad_sequence(filled, batch_first=True),
        }
        if "token_type_ids" in rows[0]:
            kinds = [torch.tensor(row["token_type_ids"]) for row in rows]
            padding = self.tokenizer.pad_token_type_id
            padded["token_type_ids"] = pad_sequence(kinds, batch_first=True, padding_value=padding)
        return self.network(**{name: tensor.to(self.network.device) for name, tensor in padded.items()}).logits[:, 0]

    def close(self) -> None:
        """Free the memory; the model cannot be used afterwards."""
        del self.network
        torch.cuda.empty_cache()


def _row_key(row: Mapping[str, list[int]]) -> Hashable:
    return tuple(row["input_ids"]), tuple(row.get("token_type_ids", ()))


def _positions(network: Any) -> int:
    """The number of positions the model has; RoBERTa's start counting after the padding index."""
    tables = [table for name, table in network.named_modules() if name.endswith("position_embeddings")]
    offset = [table for table in tables if getattr(table, "padding_idx", None) is not None]
    behind = [table.num_embeddings - table.padding_idx - 1 for table in offset]
    return min([context_length(network.config.get_text_config()) or sys.maxsize, *behind])


def _in_one(system: str, question: str) -> str:
    return f"{system}\n\n{question}" if system else question
