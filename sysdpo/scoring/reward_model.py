"""A reward model: a sequence classifier with one label, which says how good an answer to a question is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from sysdpo.components.loading import load_pretrained
from sysdpo.errors import UserError
from sysdpo.scoring.pretrained import in_batches, load_whole


class RewardModel:
    """Rewards as the model's one output, whatever its scale, on the GPU where there is one.

    It reads the conversation in its tokenizer's chat template; where there is none, question and answer as a pair of
    texts, as OpenAssistant's DeBERTa models do. Where there is no place for a system message, in a pair or in a
    template that refuses it, the system message stands before the question (our choice).

    model: a hub id or folder, revision: of the hub id. max_length: in tokens; a longer conversation loses its
    beginning, since its reward is read off its end, a longer pair the end of the longer text. Raises `UserError` if the
    model cannot be loaded or has not one label.
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
        self.network = load_whole(load, model, revision=revision, dtype=dtype)
        config = self.network.config
        if config.num_labels != 1:
            raise UserError(f"model: '{model}' has {config.num_labels} labels, but a reward model should have 1")
        self.tokenizer = load_pretrained(AutoTokenizer.from_pretrained, model, revision=revision)
        padding = config.get_text_config().pad_token_id
        self.tokenizer.pad_token_id = self.tokenizer.eos_token_id if padding is None else padding
        # A decoder that knows no padding reads the reward off each row's last token, so its rows cannot be padded.
        self.batch_size = 1 if padding is None else batch_size
        self.max_length = min(max_length, getattr(config, "max_position_embeddings", max_length))

    def score(self, systems: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """The reward of each answer to its question under its system message (empty: none), `[n]`."""
        encode = self._conversation if self.tokenizer.chat_template else self._pair
        encoded = [encode(*row) for row in zip(systems, questions, answers, strict=True)]
        # Rows of like length share a batch, which is padded to its longest.
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]["input_ids"]))
        rewards = np.empty(len(encoded))
        if encoded:
            rewards[order] = in_batches(self._rewards, [encoded[row] for row in order], self.batch_size).numpy()
        return rewards

    def _conversation(self, system: str, question: str, answer: str) -> Mapping[str, list[int]]:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if system:
            turns.insert(0, {"role": "system", "content": system})
        try:
            tokens = self.tokenizer.apply_chat_template(turns, return_dict=False)
        except TemplateError as error:
            if system:
                return self._conversation("", _in_one(system, question), answer)
            raise UserError(
                f"model: '{self.model}' should have a chat template for a question and its answer ({error})"
            ) from error
        return {"input_ids": list(tokens)[-self.max_length :]}

    def _pair(self, system: str, question: str, answer: str) -> Mapping[str, list[int]]:
        return self.tokenizer(_in_one(system, question), answer, truncation=True, max_length=self.max_length)

    def _rewards(self, rows: Sequence[Mapping[str, list[int]]]) -> Tensor:
        padded = self.tokenizer.pad(list(rows), padding_side="right", return_tensors="pt")
        return self.network(**padded.to(self.network.device)).logits[:, 0]

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


def _in_one(system: str, question: str) -> str:
    return f"{system}\n\n{question}" if system else question
