"""A reward model: a sequence classifier with one label, which says how good an answer to a question is."""

import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from sysdpo.components.prompting import TEMPLATE_FAILURES


class RewardModel:
    """Rewards as the model's one output, whatever its scale, on the GPU where there is one.

    It reads the conversation in its tokenizer's chat template; where there is none, question and answer as a pair of
    texts, as OpenAssistant's DeBERTa models do. Where there is no place for a system message, in a pair or in a
    template that refuses it, the system message stands before the question (our choice).

    model: a hub id or folder, revision: of the hub id. max_length: in tokens, or what the model has positions for and
    its tokenizer allows where that is less; a longer conversation loses its beginning, since its reward is read off its
    end, a longer pair the end of the longer text. Raises `UserError` if the model cannot be loaded or has not one
    label.
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
        # A decoder that knows no padding reads the reward off each row's last token, so its rows cannot be padded.
        self.batch_size = 1 if self.pad_id is None else batch_size
        self.max_length = min(max_length, _positions(self.network), self.tokenizer.model_max_length)

    def score(self, systems: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """The reward of each answer to its question under its system message (empty: none), `[n]`.

        The same conversation has the same reward wherever it stands.
        """
        encode = self._conversation if self.tokenizer.chat_template else self._pair
        encoded = [encode(*row) for row in zip(systems, questions, answers, strict=True)]
        # Rows of like length share a batch, which is padded to its longest.
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
            tokens = self.tokenizer.apply_chat_template(turns, return_dict=False)
        except TEMPLATE_FAILURES as error:
            if system:
                return self._conversation("", _in_one(system, question), answer)
            raise UserError(
                f"model: '{self.model}' should have a chat template for a question and its answer ({error})"
            ) from error
        return {"input_ids": list(tokens)[-self.max_length :]}

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
        return self.network(**{name: part.to(self.network.device) for name, part in padded.items()}).logits[:, 0]

    def free(self) -> None:
        """Give its memory back; it is of no use afterwards."""
        del self.network
        torch.cuda.empty_cache()


@contextmanager
def reward_model(model: str, **settings: Any) -> Iterator[RewardModel]:
    """`RewardModel(model, …)`, whose memory is given back afterwards."""
    judge = RewardModel(model, **settings)
    try:
        yield judge
    finally:
        judge.free()


def _row_key(row: Mapping[str, list[int]]) -> Hashable:
    return tuple(row["input_ids"]), tuple(row.get("token_type_ids", ()))


def _positions(network: Any) -> int:
    """How many tokens it has positions for; RoBERTa's embeddings begin to count behind their padding."""
    tables = [table for name, table in network.named_modules() if name.endswith("position_embeddings")]
    offset = [table for table in tables if getattr(table, "padding_idx", None) is not None]
    behind = [table.num_embeddings - table.padding_idx - 1 for table in offset]
    return min([context_length(network.config.get_text_config()) or sys.maxsize, *behind])


def _in_one(system: str, question: str) -> str:
    return f"{system}\n\n{question}" if system else question
