"""A classifier at a node: a router that picks a path, a checker that passes a text or a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.components.adapted_model import AdaptedModel
from sysdpo.components.architectures import context_length
from sysdpo.components.loading import load_pretrained, load_tokenizer, load_whole
from sysdpo.components.prompting import fill
from sysdpo.components.settings import ClassifyingSettings, LoadingSettings, TrainingMemory
from sysdpo.components.usage import classifier_usage
from sysdpo.components.whole_models import whole_language_model
from sysdpo.method.component import Drift, LogProbs, Usage
from sysdpo.method.values import picture_key

PICTURES, TEXTS = "ForImageClassification", "ForSequenceClassification"
SINGLE_LABEL = (None, "single_label_classification")


class Classifier(AdaptedModel):
    """`p_θ(label | text or picture)` of a classifier of transformers with a LoRA adapter, or frozen where it has none.

    Its value is one of the model's own labels, `config.id2label`, as a `str`. A classifier of texts reads
    `template.format(*condition)`, one of pictures the only picture among the node's inputs. It may be a hidden node,
    since labels can be enumerated.

    model: of transformers. reader: its tokenizer or image processor. lora: arguments of PEFT's `LoraConfig`; None
    freezes the model. settings: fields of `ClassifyingSettings`.

    Raises `UserError` for a model with fewer than two labels, two labels of the same name, or several labels at once;
    in use, for a text that is too long, for a picture where it reads texts, and for a value that is not a label.
    """

    def __init__(self, model: PreTrainedModel, reader: Any, *, lora: Mapping[str, Any] | None, **settings: Any):
        chosen = ClassifyingSettings(**settings)
        self.name, self.reader, self.template = model.name_or_path, reader, chosen.template
        self.temperature, self.batch_size = chosen.temperature, chosen.batch_size
        self.sees = type(model).__name__.endswith(PICTURES)
        self.labels = [str(label) for _, label in sorted(model.config.id2label.items())]
        if model.config.problem_type not in SINGLE_LABEL or len(set(self.labels)) != max(2, len(self.labels)):
            raise UserError(
                f"model: '{self.name}' should be a classifier into two or more labels of different names, one of them "
                f"right; its problem_type is {model.config.problem_type!r} and its labels are {self.labels}"
            )
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        self._context = None if self.sees else context_length(model.config)
        memory = {name: getattr(chosen, name) for name in TrainingMemory.model_fields}
        if memory["sharded"]:
            raise UserError("sharded: true should be false for a classifier; its weights stay whole")
        super().__init__(model, lora=lora, task=None, **memory)

    @classmethod
    def from_pretrained(cls, model: str | Path, *, lora: Mapping[str, Any] | None, **settings: Any) -> "Classifier":
        """Load from a hub id or a local folder in `from_pretrained` format.

        model: the hub id or folder. lora: as for the class. settings: fields of `LoadingSettings` and of
        `ClassifyingSettings`.

        Raises `UserError` if it is not a classifier, if weights are missing, or as the class does.
        """
        made_from = {"model": str(model), "lora": lora} | settings
        loading = LoadingSettings.pop_from(settings)
        config = load_pretrained(AutoConfig.from_pretrained, model, revision=loading.revision)
        kind = (config.architectures or ["model"])[0]
        if not kind.endswith((PICTURES, TEXTS)):
            raise UserError(f"model: '{model}' should be a classifier, a …{TEXTS} or …{PICTURES}, not a {kind}")
        auto = AutoModelForImageClassification if kind.endswith(PICTURES) else AutoModelForSequenceClassification
        dtype = getattr(torch, loading.dtype)
        network = load_whole(auto.from_pretrained, model, revision=loading.revision, dtype=dtype)
        if kind.endswith(PICTURES):
            reader = load_pretrained(AutoImageProcessor.from_pretrained, model, revision=loading.revision)
        else:
            reader = load_tokenizer(model, revision=loading.revision)
        made = cls(network, reader, lora=lora, **settings)
        made.made_from = made_from
        return made

    @property
    def reads(self) -> str | None:
        """Its template; None where it sees the only picture among its inputs."""
        return None if self.sees else self.template

    def to(self, device: torch.device) -> None:
        """Move the model."""
        self.model.to(device)

    @torch.no_grad()
    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[str]:
        """A label for each condition, drawn at `temperature` (0 is the likeliest) from the row's own seed."""
        scores = self._log_probs_of_labels(self._inputs(conditions)).cpu().double().numpy()
        if self.temperature > 0:
            noise = [numpy_generator("label", seed).standard_exponential(len(self.labels)) for seed in seeds]
            scores = scores / self.temperature - np.log(np.stack(noise))  # the Gumbel-max trick
        return [self.labels[number] for number in scores.argmax(-1)]

    def decoder(self, conditions: Sequence[tuple[Any, ...]]) -> "LabelDecoder":
        """The policy's labels at temperature 1, without gradients: one step over all of them."""
        with torch.no_grad():
            return LabelDecoder(self._log_probs_of_labels(self._inputs(conditions)), self.labels)

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[str], *, draw: Sequence[int]
    ) -> LogProbs:
        """Exact log-probabilities of the labels in nats, float32 `[batch]`; `draw` has no effect."""
        inputs, numbers = self._inputs(conditions), self._numbered(values)
        reference = self._reference(inputs)[torch.arange(len(numbers)), numbers]
        if not self.is_trained:
            return LogProbs(reference, reference)
        return LogProbs(self._log_probs_of_labels(inputs)[torch.arange(len(numbers)), numbers], reference)

    @torch.no_grad()
    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[str], *, draw: Sequence[int]) -> Drift:
        """Log-ratios, whose mean over draws estimates the KL divergence, and `−log p`; `draw` has no effect."""
        policy, reference = self.log_probs(conditions, values, draw=draw)
        return Drift(policy - reference, -policy)

    @torch.no_grad()
    def _reference(self, inputs: Sequence[Any]) -> Tensor:
        """`[rows, labels]`; the reference stands still, so what it says of an input is computed once.

        Not in half precision, where it depends on the batch.
        """
        keys = [picture_key(it) if isinstance(it, Image) else it for it in inputs]
        known = self._references if self.model.dtype == torch.float32 else {}
        if new := list({key: row for row, key in enumerate(keys) if key not in known}.values()):
            with self._as_reference():
                computed = self._log_probs_of_labels([inputs[row] for row in new])
            known.update(zip([keys[row] for row in new], computed, strict=True))
        return torch.stack([known[key] for key in keys])

    def _inputs(self, conditions: Sequence[tuple[Any, ...]]) -> list[Any]:
        """What it reads of each condition: a text, or a picture."""
        if not self.sees:
            return [fill("template", self.template, condition) for condition in conditions]
        found = [[value for value in condition if isinstance(value, Image)] for condition in conditions]
        if wrong := [len(row) for row in found if len(row) != 1]:
            raise UserError(f"model: '{self.name}' sees one picture, and its node has {wrong[0]} among its inputs")
        return [picture for (picture,) in found]

    def _numbered(self, values: Sequence[str]) -> Tensor:
        if unknown := [str(value) for value in values if str(value) not in self._numbers]:
            raise UserError(f"model: '{self.name}' gives one of the labels {self.labels}, and never {unknown[0]!r}")
        return torch.tensor([self._numbers[str(value)] for value in values])

    def _log_probs_of_labels(self, inputs: Sequence[Any]) -> Tensor:
        """`[rows, labels]`, float32, under the adapter that is active; texts of one length go through it together."""
        if self.sees:
            pixels = self.reader(images=[picture.convert("RGB") for picture in inputs], return_tensors="pt")
            rows: list[Any] = list(pixels["pixel_values"].to(self.device, self.model.dtype))
        else:
            rows = [self._tokens(text) for text in inputs]
        groups: dict[int, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(0 if self.sees else len(row), []).append(index)
        name, order, found = "pixel_values" if self.sees else "input_ids", list[int](), list[Tensor]()
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                part = group[start : start + self.batch_size]
                found.append(self.model(**{name: torch.stack([rows[index] for index in part])}).logits.float())
                order += part
        return torch.cat(found)[torch.tensor(order).argsort()].log_softmax(-1)

    def _tokens(self, text: str) -> Tensor:
        tokens = self.reader(text)["input_ids"]
        if self._context is not None and len(tokens) > self._context:
            raise UserError(
                f"model: '{self.name}' has positions for {self._context} tokens, and its node's text has {len(tokens)}"
            )
        return torch.tensor(tokens, device=self.device)

    def value_of(self, text: str, folder: Path = Path()) -> str:
        """The label of this name; raises `UserError` if there is none."""
        self._numbered([text.strip()])
        return text.strip()

    def save_model(self, folder: Path, *, merged: bool) -> None:
        """Write model and reader in `from_pretrained` format."""
        whole_language_model(self.model, self.name, merged=merged).save_pretrained(folder, safe_serialization=True)
        self.reader.save_pretrained(folder)

    def usage(self, condition: tuple[Any, ...], *, model: str, adapter: str | None = None) -> Usage:
        """How transformers, and PEFT for the adapter, classify a condition."""
        return classifier_usage(
            None if self.sees else self._inputs([condition])[0],
            model=model,
            adapter=adapter,
            kind=f"AutoModel{PICTURES if self.sees else TEXTS}",
            temperature=self.temperature,
            rounds_to=None if self.model.dtype == torch.float32 else str(self.model.dtype).removeprefix("torch."),
        )


class LabelDecoder:
    """A `Decoder` (see `sysdpo.method.candidates`) of labels: each is one token, which ends the value."""

    max_length = 1

    def __init__(self, log_probs: Tensor, labels: Sequence[str]):
        self.ends, self._log_probs, self._labels = frozenset(range(len(labels))), log_probs, labels

    def start(self) -> Tensor:
        """See `Decoder`."""
        return self._log_probs

    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """See `Decoder`: nothing follows the one token of a value."""
        return self._log_probs.new_full((len(tokens), len(self._labels)), -torch.inf)

    def value(self, tokens: Sequence[int]) -> str:
        """See `Decoder`."""
        return self._labels[tokens[0]]
