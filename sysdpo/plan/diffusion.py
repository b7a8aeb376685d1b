"""What a diffusion model at a node takes: to train, to draw, to say how likely an image is."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sysdpo.base.settings import typed
from sysdpo.components.settings import DiffusionSettings, Estimator
from sysdpo.plan.language import Pass
from sysdpo.plan.meter import NOTHING, Meter, Usage, reserve_gradients
from sysdpo.plan.models import Pipeline, parameters, sharded_bytes, trainable, weight_bytes

GUIDANCE = 5.0  # what pipelines draw with that are told nothing


class DiffusionPlan:
    """A pipeline with an adapter on its denoiser; `size` is the images' height and width in pixels."""

    tokens = 0

    def __init__(self, pipeline: Pipeline, settings: DiffusionSettings, size: tuple[int, int]):
        self.pipeline, self.settings, self.size = pipeline, settings, size
        self.draws = typed(Estimator, settings.estimator, "estimator").draws
        networks = tuple(pipeline.networks.values())
        self.parameters, self.trainable = parameters(*networks), trainable(*networks)
        self.weights = self.stored = weight_bytes(*networks)
        self.batch_size, self.sharded = settings.batch_size, settings.sharded
        self.dtype = getattr(torch, settings.dtype)
        self.images = 1

    @property
    def caches_reference(self) -> bool:
        """Whether what the reference says of an image at a draw is computed once."""
        return self.dtype == torch.float32 and not self.sharded

    def held(self, processes: int) -> float:
        """The bytes of weights that each of so many processes holds in training, which splits the denoiser alone."""
        if not self.sharded or processes == 1:
            return self.weights
        denoiser = self.pipeline.denoiser
        return self.weights - weight_bytes(denoiser) + sharded_bytes(denoiser, processes)

    def training(self, rows: float) -> Pass:
        """Of so many images at once."""
        return training_pass(self.pipeline, self.size).rows(rows * self.draws)

    def likelihood(self, rows: float) -> Usage:
        """Policy and reference of so many images at once, at one draw, without gradients, and encoding these images."""
        through = training_pass(self.pipeline, self.size).rows(rows)
        return through.plain + through.reference + self.encoding(rows)

    def encoding(self, images: float) -> Usage:
        """Images to latents, and their captions, by the frozen encoders; each is computed once."""
        if not images:
            return NOTHING
        batch = min(images, self.batch_size)
        latents = encoding(self.pipeline, self.size).rows(batch)
        # The autoencoder's weights grow to float32, where it encodes in that alone.
        grown = weight_bytes(self.pipeline.vae) if encoder_dtype(self.pipeline) != self.dtype else 0.0
        one = replace(latents, peak=latents.peak + grown) + prompt_encoding(self.pipeline).rows(batch)
        return one.times(images / batch)

    def sampling(self, rows: float) -> Usage:
        """An image for each of so many rows, `batch_size` at a time."""
        if not rows:
            return NOTHING
        guided = 2 if self.settings.sampling.get("guidance_scale", GUIDANCE) > 1 else 1
        batch = min(rows, self.batch_size)
        step = training_pass(self.pipeline, self.size).plain.rows(batch * guided)
        drawn = (
            prompt_encoding(self.pipeline).rows(batch * guided)
            + step.times(denoising_steps(self.pipeline, self.settings.sampling["num_inference_steps"]))
            + decoding(self.pipeline, self.size).rows(batch)
        )
        return drawn.times(rows / batch)


def denoising_steps(pipeline: Pipeline, wanted: int) -> int:
    """How often the denoiser is called: some schedulers do more than `num_inference_steps`."""
    pipeline.scheduler.set_timesteps(wanted)
    return len(pipeline.scheduler.timesteps)


def image_size(pipeline: Pipeline, sampling: Any) -> tuple[int, int]:
    """Height and width in pixels: as asked for, or what the denoiser was made for."""
    own = pipeline.denoiser.config.sample_size * pipeline.pixels_per_latent
    return sampling.get("height", own), sampling.get("width", own)


def encoder_dtype(pipeline: Pipeline) -> torch.dtype:
    """Autoencoders that overflow in half precision encode in float32."""
    return torch.float32 if pipeline.vae.config.get("force_upcast") else pipeline.vae.dtype


@cache
def training_pass(pipeline: Pipeline, size: tuple[int, int]) -> Pass:
    """What `DiffusionModel.log_probs` and its gradients take, for one image at one draw."""
    denoiser = pipeline.denoiser
    with torch.device("meta"):
        reserve_gradients(denoiser)
        clean = torch.empty(2, *_latent_shape(pipeline, size))
        with Meter() as meter:
            denoiser.disable_adapters()
            with meter.phase() as reference, torch.no_grad():
                known = _error(pipeline, clean)
            denoiser.enable_adapters()
            with meter.phase() as policy:
                error = _error(pipeline, clean)
            with meter.phase() as backward:
                error.sum().backward()
            del known, error
            with meter.phase() as plain, torch.no_grad():
                known = _error(pipeline, clean)
            del known
    return Pass(policy[0], reference[0], backward[0], plain[0]).rows(1 / 2)


def _latent_shape(pipeline: Pipeline, size: tuple[int, int]) -> tuple[int, int, int]:
    height, width = (side // pipeline.pixels_per_latent for side in size)
    return pipeline.denoiser.config.in_channels, height, width


def _error(pipeline: Pipeline, clean: Tensor) -> Tensor:
    noise = torch.randn_like(clean)
    noisy, target = 0.5 * clean + 0.5 * noise, noise - clean
    prediction = _denoised(pipeline, noisy)
    return ((prediction.float() - target) ** 2).flatten(1).mean(1)


def _denoised(pipeline: Pipeline, noisy: Tensor) -> Tensor:
    denoiser, rows = pipeline.denoiser, len(noisy)
    config, dtype = denoiser.config, denoiser.dtype
    given: dict[str, Any] = {"timestep": torch.zeros(rows, dtype=torch.long)}
    if pipeline.is_transformer:
        given["encoder_hidden_states"] = torch.empty(
            rows, pipeline.prompt_tokens, config.joint_attention_dim, dtype=dtype
        )
        given["pooled_projections"] = torch.empty(rows, config.pooled_projection_dim, dtype=dtype)
        return denoiser(hidden_states=noisy.to(dtype), **given).sample
    given["encoder_hidden_states"] = torch.empty(rows, pipeline.prompt_tokens, config.cross_attention_dim, dtype=dtype)
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        time_ids, text_embeds = torch.empty(rows, 6, dtype=dtype), torch.empty(rows, pooled, dtype=dtype)
        given["added_cond_kwargs"] = {"text_embeds": text_embeds, "time_ids": time_ids}
    return denoiser(sample=noisy.to(dtype), **given).sample


@cache
def encoding(pipeline: Pipeline, size: tuple[int, int]) -> Usage:
    """One image to its latents."""
    vae, shipped, dtype = pipeline.vae, pipeline.vae.dtype, encoder_dtype(pipeline)
    with torch.device("meta"), torch.no_grad():
        vae.to(dtype)
        pixels = torch.empty(2, 3, *size, dtype=dtype)
        with Meter() as meter, meter.phase() as found:
            vae.encode(pixels).latent_dist.mode().float()
        vae.to(shipped)
    return found[0].rows(1 / 2)


@cache
def decoding(pipeline: Pipeline, size: tuple[int, int]) -> Usage:
    """One image from its latents; diffusers decodes in float32 what overflows in float16."""
    vae, shipped = pipeline.vae, pipeline.vae.dtype
    dtype = encoder_dtype(pipeline) if shipped == torch.float16 else shipped
    with torch.device("meta"), torch.no_grad():
        vae.to(dtype)
        latents = torch.empty(2, *_latent_shape(pipeline, size), dtype=dtype)
        with Meter() as meter, meter.phase() as found:
            vae.decode(latents, return_dict=False)
        vae.to(shipped)
    return found[0].rows(1 / 2)


@cache
def prompt_encoding(pipeline: Pipeline) -> Usage:
    """One prompt, by all text encoders."""
    usage = NOTHING
    for name in pipeline.text_encoders:
        encoder = pipeline.networks[name]
        tokens = getattr(encoder.config, "max_position_embeddings", pipeline.prompt_tokens)
        with torch.device("meta"), torch.no_grad(), Meter() as meter, meter.phase() as found:
            encoder(torch.zeros(2, tokens, dtype=torch.long), output_hidden_states=True)
        usage = usage + found[0].rows(1 / 2)
    return usage
