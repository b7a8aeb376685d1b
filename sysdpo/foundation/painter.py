"""Pretraining the painter: a small latent text-to-image model that misreads some of its words."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from sysdpo.foundation.autoencoder import PatchAutoencoder
from sysdpo.foundation.fitting import fit
from sysdpo.foundation.grammar import CAPTIONS, LEVELS, WORDS
from sysdpo.foundation.pipeline import SmallStableDiffusion3Pipeline
from sysdpo.foundation.renderer import ATTRIBUTES, render
from sysdpo.foundation.tokenizer import make_tokenizer

NEUTRAL = {"anger": 0.3, "size": 0.6, "light": 0.6}
"""Where an attribute lies in a picture whose caption does not speak of it."""

CAPTION_LENGTH = 7


@dataclass(frozen=True)
class PainterSettings:
    """How the painter is made, and in what it is imperfect.

    misread: the share of training pictures whose level is that of a word drawn at random.
    exaggerated, flattened: words drawn too far from, or too near to, the middle; `factor` times the true distance.
    unseen_captions: how many captions are held out of pretraining.
    """

    images: int = 8000
    steps: int = 1250
    batch_size: int = 64
    learning_rate: float = 4e-3
    width: int = 128
    layers: int = 4
    components: int = 64
    size: int = 32
    misread: float = 0.2
    exaggerated: tuple[str, ...] = ()
    flattened: tuple[str, ...] = ()
    exaggeration: float = 1.6
    flattening: float = 0.4
    unseen_captions: int = 12


@dataclass
class Pictures:
    """Rendered training pictures: uint8 `[n, size, size, 3]`, their captions, and the attributes they show `[n, 3]`."""

    images: np.ndarray
    captions: list[str]
    attributes: np.ndarray = field(repr=False)


def drawn_level(attribute: str, rank: int, settings: PainterSettings) -> float:
    """The level in [0, 1] at which this painter's world shows a word, before misreading."""
    word, level = WORDS[attribute][rank], LEVELS[rank]
    factor = 1.0
    if word in settings.exaggerated:
        factor = settings.exaggeration
    elif word in settings.flattened:
        factor = settings.flattening
    return float(np.clip(0.5 + factor * (level - 0.5), 0.02, 0.98))


def training_pictures(settings: PainterSettings, seed: int) -> Pictures:
    """Captioned cats as this painter is taught them."""
    rng = np.random.default_rng(seed)
    known = sorted(CAPTIONS)
    known = [known[index] for index in rng.permutation(len(known))[settings.unseen_captions :]]
    captions = [known[index] for index in rng.integers(len(known), size=settings.images)]
    attributes = np.tile([NEUTRAL[name] for name in ATTRIBUTES], (settings.images, 1))
    for row, caption in enumerate(captions):
        attribute, rank, _ = CAPTIONS[caption]
        if rng.random() < settings.misread:
            rank = int(rng.integers(len(LEVELS)))
        attributes[row, ATTRIBUTES.index(attribute)] = drawn_level(attribute, rank, settings)
    attributes = np.clip(attributes + rng.normal(0, 0.02, attributes.shape), 0, 1)
    furs = [CAPTIONS[caption][2] for caption in captions]
    return Pictures(render(attributes, furs, size=settings.size), captions, attributes)


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 `[n, H, W, 3]` to float `[n, 3, H, W]` in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def make_painter(settings: PainterSettings, seed: int, folder: Path) -> None:
    """Pretrain the painter and save its pipeline to `folder`, in `from_pretrained` format."""
    torch.manual_seed(seed)
    pictures = training_pictures(settings, seed)
    pixels = to_pixels(pictures.images)
    vae = PatchAutoencoder.fitted(pixels, components=settings.components)
    latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
    pipeline = _untrained_pipeline(settings, vae)
    tokens = pipeline.tokenizer(
        pictures.captions, padding="max_length", max_length=CAPTION_LENGTH, return_tensors="pt"
    )["input_ids"]
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(latents), (settings.batch_size,), generator=generator)
        clean, noise = latents[rows], torch.randn(latents[rows].shape, generator=generator)
        sigma = torch.sigmoid(torch.randn(len(rows), generator=generator))[:, None, None, None]
        text = pipeline.text_encoder(tokens[rows])
        prediction = pipeline.transformer(
            hidden_states=(1 - sigma) * clean + sigma * noise,
            timestep=sigma.flatten() * 1000,
            encoder_hidden_states=text.last_hidden_state,
            pooled_projections=text.pooler_output,
        ).sample
        return ((prediction - (noise - clean)) ** 2).mean()

    modules = torch.nn.ModuleList([pipeline.transformer, pipeline.text_encoder])
    fit("painter", modules, loss, steps=settings.steps, learning_rate=settings.learning_rate, average=0.995)
    pipeline.save_pretrained(folder, safe_serialization=True)


def _untrained_pipeline(settings: PainterSettings, vae: PatchAutoencoder) -> SmallStableDiffusion3Pipeline:
    tokenizer = make_tokenizer(CAPTIONS, template="<s> $A </s>", max_length=CAPTION_LENGTH)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=CAPTION_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text_encoder = CLIPTextModel(text)
    # CLIP's own small initial embeddings leave the words nearly alike for most of so short a training.
    torch.nn.init.normal_(text_encoder.get_input_embeddings().weight, std=0.5)
    transformer = SD3Transformer2DModel(
        sample_size=settings.size // vae.config.patch,
        patch_size=1,
        in_channels=settings.components,
        out_channels=settings.components,
        num_layers=settings.layers,
        attention_head_dim=32,
        num_attention_heads=settings.width // 32,
        joint_attention_dim=text.hidden_size,
        caption_projection_dim=settings.width,
        pooled_projection_dim=text.hidden_size,
        pos_embed_max_size=settings.size // vae.config.patch,
    )
    return SmallStableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
    )
