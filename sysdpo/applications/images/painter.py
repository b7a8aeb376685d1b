"""Pretraining the painter: a small latent text-to-image model that misreads some of its words."""

from collections.abc import Collection, Iterable
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from sysdpo.applications.fitting import fit
from sysdpo.applications.images.autoencoder import PatchAutoencoder
from sysdpo.applications.images.grammar import CAPTIONS, Scene
from sysdpo.applications.images.pipeline import SmallStableDiffusion3Pipeline
from sysdpo.applications.images.regressor import to_pixels
from sysdpo.applications.images.settings import ModelOfPictures, PainterSettings
from sysdpo.applications.images.world import Pictures, training_pictures
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.seeds import seed_torch, torch_generator

CAPTION_LENGTH = 8


def make_painter(settings: PainterSettings, scenes: Collection[Scene], seed: int, folder: Path) -> None:
    """Pretrain the painter on pictures of these scenes; save its pipeline to `folder`, in `from_pretrained` format."""
    fit_painter(settings, training_pictures(settings, scenes, seed), CAPTIONS, seed, folder)


def fit_painter(settings: ModelOfPictures, pictures: Pictures, texts: Iterable[str], seed: int, folder: Path) -> None:
    """Pretrain a painter on captioned pictures; save its pipeline to `folder`. texts: with every word that it knows."""
    seed_torch("painter", seed)
    pixels = to_pixels(pictures.images)
    vae = PatchAutoencoder.fitted(pixels, components=settings.components)
    latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
    pipeline = _untrained_pipeline(settings, texts, vae)
    tokens = pipeline.tokenizer(
        pictures.captions, padding="max_length", max_length=CAPTION_LENGTH, return_tensors="pt"
    )["input_ids"]
    generator = torch_generator("painter batches", seed)

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


def _untrained_pipeline(
    settings: ModelOfPictures, texts: Iterable[str], vae: PatchAutoencoder
) -> SmallStableDiffusion3Pipeline:
    tokenizer = make_tokenizer(texts, template="<s> $A </s>", max_length=CAPTION_LENGTH)
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
    # CLIP's small initial embeddings would keep words nearly alike for most of such a short training.
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
