"""A language model that sees pictures, at a node: transformers for the model, PEFT for what is trained."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
)

from sysdpo.base.errors import UserError
from sysdpo.components.language import LanguageModel
from sysdpo.components.loading import load_pretrained, load_whole
from sysdpo.components.picture_prompts import PicturePrompt, PicturePrompter
from sysdpo.components.recomputing import recomputing
from sysdpo.components.settings import CompletionSettings, LoadingSettings
from sysdpo.components.usage import seeing_usage
from sysdpo.method.component import Usage
from sysdpo.method.values import Completion


class VisionLanguageModel(LanguageModel):
    """`p_θ(completion | texts and pictures)` of a model of `AutoModelForImageTextToText` with a LoRA adapter.

    Pictures are among the node's inputs, or where the node's own template names them (see `PicturePrompter`). Tokens
    that stand for pictures are never generated: the distribution is over all others. Settings, reference and adapter
    are those of `LanguageModel`. A search for candidates reads its prompts again at every step.

    model: of `AutoModelForImageTextToText`. processor: that of the model. lora, settings: as for `LanguageModel`.

    Raises `UserError` as `LanguageModel` does, for `sharded` weights, and for a model that cannot take prompts of
    several lengths at once.
    """

    encode_prompt: Any

    def __init__(self, model: PreTrainedModel, processor: Any, *, lora: Mapping[str, Any] | None, **settings: Any):
        chosen = CompletionSettings(**settings)
        if chosen.sharded:
            raise UserError("sharded: true should be false for a model that sees pictures; its weights stay whole")
        tokenizer = processor.tokenizer
        if tokenizer.chat_template is None:  # where turns end; a processor may have the template alone
            tokenizer.chat_template = processor.chat_template
        super().__init__(model, tokenizer, lora=lora, **settings)
        if not self.architecture.pads:
            raise UserError(f"model: a {type(model).__name__} cannot take prompts of several lengths at once")
        if self.encode_prompt.behind:
            raise UserError(
                f"model: the tokenizer of '{self.name}' should put nothing behind a prompt, where a completion starts"
            )
        self.processor = processor
        self.encode_prompt = PicturePrompter(
            processor, chosen.template or "{0}", chosen.system_prompt, chosen.chat_template_kwargs
        )
        config = model.config.to_dict()
        marks = {config.get(f"{kind}_token_{word}") for kind in ("image", "video", "audio") for word in ("id", "index")}
        self._marks = sorted(marks - {None})
        # Any token does where nothing is read, but for those that stand for pictures, which are counted.
        self._padding = next(token for token in range(len(self._marks) + 1) if token not in self._marks)

    @classmethod
    def from_pretrained(
        cls, model: str | Path, *, lora: Mapping[str, Any] | None, **settings: Any
    ) -> "VisionLanguageModel":
        """Load from a hub id or a local folder in `from_pretrained` format, with its processor.

        model: the hub id or folder. lora: as for `LanguageModel`. settings: fields of `LoadingSettings` and of
        `CompletionSettings`.

        Raises `UserError` if it is not such a model, if weights are missing, or as the class does.
        """
        made_from = {"model": str(model), "lora": lora} | settings
        loading = LoadingSettings.pop_from(settings)
        load, dtype = AutoModelForImageTextToText.from_pretrained, getattr(torch, loading.dtype)
        network = load_whole(load, model, revision=loading.revision, dtype=dtype)
        processor = load_pretrained(AutoProcessor.from_pretrained, model, revision=loading.revision, what="processor")
        if not hasattr(processor, "image_token") or not hasattr(processor, "tokenizer"):
            raise UserError(f"model: '{model}' should come with a processor of pictures and texts")
        made = cls(network, processor, lora=lora, **settings)
        made.made_from = made_from
        return made

    def _encode(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Completion] = ()) -> list[Any]:
        return [self.encode_prompt(condition) for condition in conditions]

    def _identity(self, prompt: PicturePrompt) -> tuple[Any, ...]:
        return prompt.key

    def _features(self, prompts: Sequence[PicturePrompt], side: str, room: int) -> dict[str, Tensor]:
        """What the model takes, padded at this side, with `room` for so many more tokens."""
        pictures = [[picture.convert("RGB") for picture in prompt.pictures] for prompt in prompts]
        features = self.processor(
            text=[prompt.text for prompt in prompts],
            images=pictures if any(pictures) else None,
            padding=True,
            padding_side=side,
            return_tensors="pt",
            # A chat template writes the begin token itself.
            add_special_tokens=not self.encode_prompt.has_chat,
        )
        length, context = features["input_ids"].shape[1], self.architecture.context
        if context is not None and length + room > context:
            raise UserError(
                f"max_new_tokens: {room} should leave room for the prompt; a prompt of {length} tokens, pictures "
                f"included, and a completion of {room} are more than the {context} that the model '{self.name}' has "
                "positions for"
            )
        if (highest := int(features["input_ids"].max())) >= self._vocabulary:
            raise UserError(
                f"model: the processor of '{self.name}' should have no token that the model does not know; it gives "
                f"token {highest}, and there are {self._vocabulary}"
            )
        return {
            name: part.to(self.device, self.model.dtype if part.is_floating_point() else part.dtype)
            for name, part in features.items()
        }

    def _sample_batch(self, prompts: list[Any], seeds: Sequence[int]) -> list[Completion]:
        features = self._features(prompts, "left", self.max_new_tokens)
        return self._generate(features, seeds, padding=self._padding, never=self._marks)

    def _read(self, prompts: Sequence[PicturePrompt], tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts with these tokens behind them, read at once.

        Returns `log p(next token)`, float32 `[rows, kept, vocabulary]`, at the kept positions, int64 `[kept]`: from the
        shortest prompt's last token on; and the prompts' lengths, `[rows]`.
        """
        features = self._features(prompts, "right", max(map(len, tokens)))
        ids, lengths = features["input_ids"], features["attention_mask"].sum(1)
        # A mark behind the prompt would stand for a picture that is not there.
        added = [[self._padding if token in self._marks else token for token in row] for row in tokens]
        rows = [
            torch.cat([row[:length], torch.tensor(more, dtype=row.dtype, device=row.device)])
            for row, length, more in zip(ids, lengths.tolist(), added, strict=True)
        ]
        longer = {"input_ids": pad_sequence(rows, batch_first=True, padding_value=self._padding)}
        width = longer["input_ids"].shape[1]
        ends = torch.tensor([len(row) for row in rows], device=ids.device)[:, None]
        longer["attention_mask"] = (torch.arange(width, device=ids.device) < ends).long()
        for name, part in features.items():
            if name not in longer and part.shape == ids.shape and not part.is_floating_point():
                padded = torch.nn.functional.pad(part, (0, max(0, width - part.shape[1])))[:, :width]
                longer[name] = padded  # what kind of token each is: text, behind a prompt
        kept = torch.arange(int(lengths.min()) - 1, width, device=ids.device)
        with recomputing(self._recomputed):
            logits = self.model(**features | longer, logits_to_keep=kept, use_cache=False).logits.float()
        if self._marks:
            logits = logits.index_fill(-1, torch.tensor(self._marks, device=logits.device), -torch.inf)
        return logits.log_softmax(-1), kept, lengths

    def _completion_log_probs(self, prompts: list[Any], values: Sequence[Completion]) -> Tensor:
        tokens = [value.tokens for value in values]
        log_probs, kept, lengths = self._read(prompts, tokens)
        said = pad_sequence([torch.tensor(row) for row in tokens], batch_first=True, padding_value=-1)
        said = said.to(lengths.device)
        # Where, among the kept positions, the model says what a completion's first, second, … token is.
        places = lengths[:, None] - 1 - kept[0] + torch.arange(said.shape[1], device=lengths.device)
        of_all = log_probs[torch.arange(len(tokens), device=lengths.device)[:, None], places.clamp_max(len(kept) - 1)]
        return of_all.gather(-1, said.clamp_min(0)[..., None])[..., 0].masked_fill(said < 0, 0.0).sum(-1)

    def decoder(self, conditions: Sequence[tuple[Any, ...]]) -> "RereadingDecoder":  # type: ignore[override]
        """The policy's completions of these prompts, token by token at temperature 1, without gradients."""
        ends, prompts = self._end_tokens(), self._encode(conditions)

        def following(rows: Sequence[int], tokens: Sequence[tuple[int, ...]]) -> Tensor:
            log_probs, kept, lengths = self._read([prompts[row] for row in rows], tokens)
            added = torch.tensor([len(row) for row in tokens], device=lengths.device)
            return log_probs[torch.arange(len(rows), device=lengths.device), lengths + added - 1 - kept[0]]

        value = partial(self._completion, ends=ends)
        return RereadingDecoder(following, len(prompts), ends=ends, max_length=self.max_new_tokens, value=value)

    def value_of(self, text: str, folder: Path = Path()) -> Completion:
        """The text as the model would have generated it, which generates no mark of a picture."""
        return super().value_of(self.encode_prompt.unmarked(text), folder)

    def _write_reader(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)

    def usage(self, condition: tuple[Any, ...], *, model: str, adapter: str | None = None) -> Usage:
        """How transformers, and PEFT for the adapter, complete the prompt of a condition."""
        prompt = self.encode_prompt(condition)
        return seeing_usage(
            prompt.text,
            pictures=len(prompt.pictures),
            chat=self.encode_prompt.messages(condition) if self.encode_prompt.has_chat else None,
            chat_template_kwargs=self.encode_prompt.chat_template_kwargs,
            model=model,
            adapter=adapter,
            generation=self._generation(adapter),
            rounds_to=None if self.model.dtype == torch.float32 else str(self.model.dtype).removeprefix("torch."),
        )


class RereadingDecoder:
    """A `Decoder` (see `sysdpo.method.candidates`) that reads prompt and tokens anew at every step.

    following: `log p(next token)`, `[m, vocabulary]`, of rows by their conditions' numbers and their tokens so far.
    """

    def __init__(
        self,
        following: Callable[[Sequence[int], Sequence[tuple[int, ...]]], Tensor],
        conditions: int,
        *,
        ends: Sequence[int],
        max_length: int,
        value: Callable[[list[int]], Any],
    ):
        self.ends, self.max_length = frozenset(ends), max_length
        self._following, self._conditions, self._value = following, conditions, value

    @torch.no_grad()
    def start(self) -> Tensor:
        """See `Decoder`."""
        self._rows: list[tuple[int, tuple[int, ...]]] = [(number, ()) for number in range(self._conditions)]
        return self._run()

    @torch.no_grad()
    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """See `Decoder`."""
        before = [self._rows[row] for row in rows.tolist()]
        self._rows = [(number, (*said, token)) for (number, said), token in zip(before, tokens.tolist(), strict=True)]
        return self._run()

    def _run(self) -> Tensor:
        numbers, tokens = zip(*self._rows, strict=True)
        return self._following(numbers, tokens)

    def value(self, tokens: Sequence[int]) -> Any:
        """See `Decoder`."""
        return self._value(list(tokens))
