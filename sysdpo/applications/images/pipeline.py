"""The small painter's pipeline: Stable Diffusion 3's, with one CLIP text encoder instead of three.

This file travels with an exported pipeline, for diffusers to load it where this library is not: it imports none of it.
"""

from typing import Any, ClassVar

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.image_processor import VaeImageProcessor
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerFast


class SmallStableDiffusion3Pipeline(StableDiffusion3Pipeline):
    """A `StableDiffusion3Pipeline` with one `CLIPTextModel` for both token and pooled embeddings.

    Used, saved and loaded as its parent: `SmallStableDiffusion3Pipeline.from_pretrained(folder)("a calm ginger cat")`.
    With the released text encoders, 77 + 256 tokens would cost twenty times the 4 × 4 latents of a 32-pixel image.
    """

    _optional_components: ClassVar[list[str]] = []
    text_encoder_2 = None  # the LoRA loader of the parent asks for it

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        vae: ModelMixin,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerFast,
    ):
        DiffusionPipeline.__init__(self)  # the parent's would register missing encoders
        self.register_modules(
            transformer=transformer,
            scheduler=scheduler,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.vae_scale_factor = vae.config.patch
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.tokenizer_max_length = tokenizer.model_max_length
        self.default_sample_size = transformer.config.sample_size
        self.patch_size = transformer.config.patch_size

    def encode_prompt(
        self,
        prompt: str | list[str],
        prompt_2: Any = None,
        prompt_3: Any = None,
        device: torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | list[str] | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """`(tokens, negative tokens, pooled, negative pooled)`: `[n, length, width]` and `[n, width]`."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        tokens, pooled = self._encode(prompts, num_images_per_prompt)
        if not do_classifier_free_guidance:
            return tokens, None, pooled, None
        negatives = [negative_prompt or ""] * len(prompts) if not isinstance(negative_prompt, list) else negative_prompt
        negative_tokens, negative_pooled = self._encode(negatives, num_images_per_prompt)
        return tokens, negative_tokens, pooled, negative_pooled

    def _encode(self, prompts: list[str], repeats: int) -> tuple[Tensor, Tensor]:
        encoded = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer_max_length,
            truncation=True,
            return_tensors="pt",
        )
        output = self.text_encoder(encoded["input_ids"].to(self.text_encoder.device))
        return (
            output.last_hidden_state.repeat_interleave(repeats, 0),
            output.pooler_output.repeat_interleave(repeats, 0),
        )
