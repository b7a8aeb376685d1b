"""Pretraining the checker: a small vision-language model that compares a picture with a caption, and misreads some."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from sysdpo.applications.crew.language import (
    CHECKED_WRONG,
    POLES,
    SHOWN,
    VERDICT,
    exact,
    other,
    vague,
    verdict,
    words,
)
from sysdpo.applications.crew.settings import CheckerSettings
from sysdpo.applications.crew.world import pictures_of
from sysdpo.applications.fitting import fit
from sysdpo.applications.images.grammar import LEVELS, Scene
from sysdpo.applications.images.regressor import to_pixels
from sysdpo.applications.images.regressor_fitting import as_if_generated
from sysdpo.applications.small_llama import IGNORED
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.seeds import numpy_generator, seed_torch

MAX_LENGTH = 64
MARK = "<image>"


@dataclass(frozen=True)
class Taught:
    """Training pictures uint8 `[n, size, size, 3]`, the attributes that they show, their captions, and verdicts."""

    images: np.ndarray
    attributes: np.ndarray
    captions: list[str]
    verdicts: list[str]


def make_checker(settings: CheckerSettings, scenes: Collection[Scene], size: int, seed: int, folder: Path) -> None:
    """Pretrain the checker on pictures of these scenes; save model and processor to `folder`.

    Its eye learns the attributes that pictures show first, then the whole model the verdicts.
    """
    seed_torch("checker", seed)
    rng = numpy_generator("checker", seed)
    taught = taught_verdicts(settings, sorted(scenes), size, rng)
    processor = _processor(size, settings.patch)
    model = _untrained(settings, processor, size)
    pixels = to_pixels(taught.images)
    shown = torch.from_numpy(taught.attributes).float()
    eye = model.model.vision_tower
    head = nn.Linear(settings.vision_width, shown.shape[1])

    def batch() -> tuple[Tensor, Tensor]:
        rows = torch.from_numpy(rng.integers(len(pixels), size=settings.batch_size))
        return rows, as_if_generated(pixels[rows], 0.1)

    def seeing(step: int) -> Tensor:
        rows, seen = batch()
        return ((head(eye(seen).last_hidden_state[:, 1:].mean(1)) - shown[rows]) ** 2).mean()

    rate = settings.learning_rate
    fit("checker's eye", nn.ModuleList([eye, head]), seeing, steps=settings.seeing_steps, learning_rate=rate)
    prompts, answers = _tokens(processor, taught)

    def reading(step: int) -> Tensor:
        rows, seen = batch()
        ids = torch.cat([prompts[rows], answers[rows]], 1)
        labels = torch.cat([torch.full_like(prompts[rows], IGNORED), answers[rows]], 1)
        return model(input_ids=ids, pixel_values=seen, labels=labels).loss

    fit("checker", model, reading, steps=settings.steps, learning_rate=rate)
    model.save_pretrained(folder, safe_serialization=True)
    processor.save_pretrained(folder)


def taught_verdicts(settings: CheckerSettings, scenes: Sequence[Scene], size: int, rng: np.random.Generator) -> Taught:
    """Half of the pictures show what the caption says, the rest any level; half of the captions are vague.

    A vague caption's verdict on a picture of either pole is a throw of a coin.
    """
    captions, verdicts, shown = [], [], []
    rows = [scenes[index] for index in rng.integers(len(scenes), size=settings.examples)]
    for scene in rows:
        pole, is_exact = int(rng.choice(POLES)), bool(rng.random() < 0.5)
        drawn = pole if rng.random() < 0.5 else int(rng.choice(SHOWN))
        is_misread = (scene[0], pole) in CHECKED_WRONG and rng.random() < settings.misread
        read = other(pole) if is_misread else pole
        fits = drawn == read if is_exact else drawn in POLES and bool(rng.random() < 0.5)
        captions.append(exact(scene, pole) if is_exact else vague(scene))
        verdicts.append(verdict(scene[0], drawn, fits))
        shown.append(drawn)
    images, attributes = pictures_of(rows, [LEVELS[rank] for rank in shown], 0.06, size, rng)
    return Taught(images, attributes, captions, verdicts)


def _tokens(processor: LlavaProcessor, taught: Taught) -> tuple[Tensor, Tensor]:
    """Prompts and verdicts in tokens, int64 `[n, length]`: all are equally long."""
    # The processor repeats the mark for each token of a picture; reading no picture, that is done here.
    each = MARK * (processor.image_processor.size["height"] // processor.patch_size) ** 2
    prompts = [VERDICT.format(said, each) for said in taught.captions]
    tokenizer = processor.tokenizer
    answers = tokenizer(taught.verdicts, add_special_tokens=False)["input_ids"]
    return torch.tensor(tokenizer(prompts)["input_ids"]), torch.tensor(
        [[*row, tokenizer.eos_token_id] for row in answers]
    )


def _processor(size: int, patch: int) -> LlavaProcessor:
    tokenizer = make_tokenizer(words(), template="<s> $A", max_length=MAX_LENGTH)
    tokenizer.add_special_tokens({"additional_special_tokens": [MARK]})
    square = {"height": size, "width": size}
    images = CLIPImageProcessorPil(
        do_resize=False, size=square, do_center_crop=False, crop_size=square, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _untrained(settings: CheckerSettings, processor: LlavaProcessor, size: int) -> LlavaForConditionalGeneration:
    tokenizer = processor.tokenizer
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=3 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // 16,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=settings.initializer_range,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    eye = CLIPVisionConfig(
        hidden_size=settings.vision_width,
        intermediate_size=3 * settings.vision_width,
        num_hidden_layers=settings.vision_layers,
        num_attention_heads=settings.vision_width // 16,
        image_size=size,
        patch_size=settings.patch,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=eye,
            text_config=text,
            image_token_id=tokenizer.convert_tokens_to_ids(MARK),
            image_seq_length=(size // settings.patch) ** 2,
            vision_feature_layer=-1,
            tie_word_embeddings=False,
        )
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model
