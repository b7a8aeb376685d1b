"""Tiny models of the ecosystem's own classes, and what tests do to them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    LlamaConfig,
    LlamaForCausalLM,
)

from sysdpo.applications.images.grammar import SCENES
from sysdpo.applications.images.painter import make_painter
from sysdpo.applications.images.settings import PainterSettings
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.method.values import Completion

WORDS = ("cat", "dog", "red", "blue", "runs", "sleeps", "big", "small")
LANGUAGE_LORA = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}
DIFFUSION_LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_k", "to_v"]}
SAMPLING = {"num_inference_steps": 2, "guidance_scale": 0.0, "height": 32, "width": 32}
PAINTER = PainterSettings(images=64, steps=2, batch_size=8, width=32, layers=1, components=8)


def save_painter(folder: Path) -> Path:
    make_painter(PAINTER, set(SCENES), 0, folder)
    return folder


def save_language_model(folder: Path, width: int = 16, words: Sequence[str] = WORDS, context: int = 96) -> Path:
    torch.manual_seed(0)
    tokenizer = make_tokenizer([" ".join(words)], template="<s> $A", max_length=32)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        initializer_range=0.5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer():
    return make_tokenizer([" ".join(WORDS)], template="<s> $A </s>", max_length=6)


def _text_config(**more) -> CLIPTextConfig:
    tokenizer = _tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=6,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def _unet(cross_attention: int, **more) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        cross_attention_dim=cross_attention,
        **more,
    )


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=0.5,
        shift_factor=0.1,
    )


def stable_diffusion(prediction_type: str) -> StableDiffusionPipeline:
    torch.manual_seed(1)
    return StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=_tokenizer(),
        unet=_unet(8),
        scheduler=DDPMScheduler(prediction_type=prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    torch.manual_seed(2)
    text = _text_config(projection_dim=8)
    unet = _unet(
        16,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=8 + 6 * 4,
    )
    return StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        unet=unet,
        scheduler=DDPMScheduler(prediction_type="epsilon"),
        add_watermarker=False,
    )


def perturb(component, seed: int = 0, size: float = 0.3) -> None:
    """Move a component's trainable weights, so that its policy is no longer its reference."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in component.trainable_parameters():
            weight += size * torch.randn(weight.shape, generator=generator)


def weights(component) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in component.trainable_parameters()]


def completion(language, text: str, end: bool = True) -> Completion:
    """This text as a completion of this language model."""
    tokens = language.tokenizer(text, add_special_tokens=False)["input_ids"]
    return Completion(text, (*tokens, *([language.tokenizer.eos_token_id] if end else [])))


def picture(seed: int, side: int = 32) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
