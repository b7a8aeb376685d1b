"""A text-to-image diffusion model at a node: a diffusers pipeline, with LoRA on its denoiser.

A denoiser has no tractable likelihood. Diffusion-DPO (Wallace et al., arXiv 2311.12908) replaces it by the variational
bound: with the error `‖target − prediction‖²` at a sampled timestep `t` and noise `ε`, `log p ≈ −(ω_t/2)·error`.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from PIL.Image import Image
from PIL.Image import open as open_image
from safetensors.torch import load_file
from torch import Tensor

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator, torch_generator
from sysdpo.components.encoders import FrozenEncoders
from sysdpo.components.loading import add_lora, check_same_weights, load_pretrained
from sysdpo.components.lora import fold_into_small, merged, sort_metadata
from sysdpo.components.lora_component import POLICY, REFERENCE, LoraComponent
from sysdpo.components.noise import NoiseSchedule
from sysdpo.components.pipelines import check_supported, load_pipeline
from sysdpo.components.settings import BoundSettings, DiffusionLoading, Estimator
from sysdpo.components.sharding import shard
from sysdpo.components.usage import picture_usage
from sysdpo.components.whole_models import add_code, forget_origin, own_classes, whole_denoiser
from sysdpo.method.component import Drift, LogProbs, Usage
from sysdpo.method.values import as_text, picture_key

ADAPTER = "pytorch_lora_weights.safetensors"


class DiffusionModel(LoraComponent):
    """`log p_θ(image | prompt)` of a diffusers text-to-image pipeline, up to a constant that does not depend on θ.

    The denoiser may be a UNet or an SD3-type transformer, with epsilon, v, sample or flow prediction; the pipeline must
    have `encode_prompt`. The condition's first value is the prompt. Only the denoiser's LoRA adapter is trained, in
    float32. Latents and encoded prompts are cached in the host's memory (`FrozenEncoders`).

    pipeline: a text-to-image pipeline of diffusers.
    lora: arguments of PEFT's `LoraConfig`; None freezes the model.
    sampling: arguments of the pipeline's call, such as `num_inference_steps`.
    settings: fields of `BoundSettings`.

    Raises `UserError` for a wrong setting, or for a pipeline that cannot be trained (see `check_supported`).
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        *,
        lora: Mapping[str, Any] | None,
        sampling: Mapping[str, Any] | None = None,
        **settings: Any,
    ):
        super().__init__(is_trained=lora is not None)
        chosen = BoundSettings(**settings)
        check_supported(pipeline, pipeline.config.get("_name_or_path") or type(pipeline).__name__)
        self.pipeline = pipeline
        self.pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False).eval()
        self.is_transformer = getattr(pipeline, "unet", None) is None
        self._part = "transformer" if self.is_transformer else "unet"
        self.denoiser = getattr(pipeline, self._part)
        self.dtype = self.denoiser.dtype  # looked for among all its modules at every question
        if lora is not None:
            add_lora(partial(self.denoiser.add_adapter, adapter_name=POLICY), LoraConfig(lora_dropout=0.0, **lora))
            self._in_float32(POLICY)
            fold_into_small(self.denoiser)
            self._remember_start()
        if chosen.gradient_checkpointing:
            self.denoiser.enable_gradient_checkpointing()
        self.sharded, self.estimator, self.batch_size = chosen.sharded, chosen.estimator, chosen.batch_size
        self.schedule = NoiseSchedule.of(pipeline.scheduler)
        self.sampling = dict(sampling or {})
        self.encoders = FrozenEncoders(pipeline, batch_size=self.batch_size)

    @classmethod
    def from_pretrained(cls, model: str | Path, *, lora: Mapping[str, Any] | None, **settings: Any) -> "DiffusionModel":
        """Load from a hub id or a local folder in `from_pretrained` format.

        model: the hub id or folder. lora: as for the class. settings: fields of `DiffusionLoading`, and the other
        arguments of the class.

        Raises `UserError` if it is not such a pipeline, if weights are missing, or as the class does.
        """
        made_from = {"model": str(model), "lora": lora} | settings
        loading = DiffusionLoading.pop_from(settings)
        pipeline = load_pipeline(model, **loading.fields | {"dtype": getattr(torch, loading.dtype)})
        made = cls(pipeline, lora=lora, **settings)
        made.made_from = made_from
        return made

    @property
    def memories(self) -> dict[str, MutableMapping[Any, Any]]:
        """Caches of what frozen parts computed, by kind; an entry that is put there is not computed again."""
        return super().memories | self.encoders.memories

    @property
    def network(self) -> Any:
        """The denoiser."""
        return self.denoiser

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of its pictures in pixels: as configured, or else the denoiser's own."""
        own = self.denoiser.config.sample_size * self.pipeline.vae_scale_factor
        return self.sampling.get("height", own), self.sampling.get("width", own)

    def to(self, device: torch.device) -> None:
        """Move the pipeline; where it is sharded, each process of a training keeps its part of the denoiser."""
        self.pipeline.to(device)
        if self.sharded:
            shard(self.denoiser, self.denoiser._no_split_modules)

    @torch.no_grad()
    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Image]:
        """One image for each condition, by the pipeline's own call with the row's own seed."""
        images: list[Image] = []
        for start in range(0, len(conditions), self.batch_size):
            rows = slice(start, start + self.batch_size)
            generators = [torch_generator("picture", seed) for seed in seeds[rows]]
            prompts = [as_text(condition[0]) for condition in conditions[rows]]
            with merged(self.denoiser):
                images += self.pipeline(prompt=prompts, generator=generators, **self.sampling).images
        return images

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Image], *, draw: Sequence[int]
    ) -> LogProbs:
        """`−(ω_t/2)·error` at the `(t, ε)` that `draw` names, shared by policy and reference: float32 `[batch]`.

        In nats if the estimator's weighting is `elbo`; with `simple` in units of its `omega`.
        """
        prompts = [as_text(condition[0]) for condition in conditions]
        digests = [picture_key(image) for image in values]
        # The reference stands still, so what it says of an image at a draw is computed once. Not in half precision,
        # where it depends on the batch, nor where all processes must call the model equally often.
        keys = list(zip(digests, prompts, draw, strict=True))
        known = self._references if self.dtype == torch.float32 and not self.sharded else {}
        latents = self.encoders.latents(digests, values, self.device)
        if new := [row for row, key in enumerate(keys) if key not in known]:
            rows = [prompts[row] for row in new], latents[new], [draw[row] for row in new]
            with torch.no_grad(), self._as_reference():
                computed = self._estimate(*rows)
            known.update(zip([keys[row] for row in new], computed, strict=True))
        reference = torch.stack([known[key] for key in keys])
        return LogProbs(self._estimate(prompts, latents, draw) if self.is_trained else reference, reference)

    def _estimate(self, prompts: Sequence[str], latents: Tensor, draw: Sequence[int]) -> Tensor:
        """The bound under the active adapter, averaged over each row's draws; shape `[batch]`."""
        repeats = self.estimator.draws
        latents = latents.repeat_interleave(repeats, 0)
        encoded = self.encoders.prompts(prompts, self.device)
        condition = {name: part.repeat_interleave(repeats, 0) for name, part in encoded.items()}
        step, noise = self._draws(draw, latents.shape[1:], self.estimator)
        noisy, target = self.schedule.corrupt(latents, noise.to(latents), step)
        return self._log_prob(noisy, target, step, condition).reshape(-1, repeats).mean(1)

    def _log_prob(self, noisy: Tensor, target: Tensor, step: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        error = (self._predicted(noisy, step, condition) - target) ** 2
        if self.estimator.weighting == "simple":
            return -self.estimator.omega / 2 * error.flatten(1).mean(1)
        low, high = self.estimator.noise_range
        weight = (high - low) * self.schedule.elbo_weight[step].to(noisy.device)
        return -self.estimator.omega / 2 * weight * error.flatten(1).sum(1)

    def _predicted(self, noisy: Tensor, step: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The prediction from noisy latents under the active adapter, float32 of their shape."""
        timestep = self.schedule.timestep[step].to(noisy.device)
        name = "hidden_states" if self.is_transformer else "sample"
        height, width = (side * self.pipeline.vae_scale_factor for side in noisy.shape[-2:])
        keywords = self._keywords(condition, height, width)
        return self.denoiser(**{name: noisy.to(self.dtype)}, timestep=timestep, **keywords).sample.float()

    @torch.no_grad()
    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Image], *, draw: Sequence[int]) -> Drift:
        """An upper bound of the KL divergence between images: that between whole denoising paths.

        `½·w_t·‖v_θ(x_t) − v_ref(x_t)‖²`, summed over elements, at one `t` of the whole schedule and one noise for each
        image of the policy, with the weight `w_t` of the variational bound (Girsanov's theorem for the two diffusions;
        Song et al., arXiv 2101.09258, theorem 1): float32 `[batch]`, nats, never negative. At low noise it is mostly
        about grain that cannot be seen. The entropy is NaN.
        """
        prompts = [as_text(condition[0]) for condition in conditions]
        latents = self.encoders.latents([picture_key(image) for image in values], values, self.device)
        condition = self.encoders.prompts(prompts, self.device)
        step, noise = self._draws(draw, latents.shape[1:], Estimator())
        noisy, _ = self.schedule.corrupt(latents, noise.to(latents), step)
        policy = self._predicted(noisy, step, condition)
        with self._as_reference():
            reference = self._predicted(noisy, step, condition)
        weight = self.schedule.elbo_weight[step].to(noisy.device)
        kl = weight / 2 * ((policy - reference) ** 2).flatten(1).sum(1)
        return Drift(kl, torch.full_like(kl, torch.nan))

    def _draws(self, draw: Sequence[int], shape: torch.Size, estimator: Estimator) -> tuple[Tensor, Tensor]:
        """Timestep indices `[batch·draws]` and noises `[batch·draws, *shape]`, functions of each row's draw alone."""
        steps, noises = [], []
        for row in draw:
            for repeat in range(estimator.draws):
                mirrored = estimator.antithetic and repeat % 2 == 1
                name = row * estimator.draws + repeat - mirrored
                noise = torch.from_numpy(numpy_generator("noise", name).standard_normal(shape, dtype=np.float32))
                steps.append(self.schedule.stratified_step(name, *estimator.noise_range))
                noises.append(-noise if mirrored else noise)
        return torch.tensor(steps), torch.stack(noises)

    def _keywords(self, condition: Mapping[str, Tensor], height: int, width: int) -> dict[str, Any]:
        """The encoded prompt as the denoiser's keyword arguments, with the size of an uncropped image for XL."""
        tokens = {"encoder_hidden_states": condition["tokens"]}
        if "pooled" not in condition:
            return tokens
        if self.is_transformer:
            return tokens | {"pooled_projections": condition["pooled"]}
        size_and_crop = torch.tensor([[height, width, 0, 0, height, width]], device=self.device)
        time_ids = size_and_crop.repeat(len(condition["pooled"]), 1).to(condition["pooled"])
        return tokens | {"added_cond_kwargs": {"text_embeds": condition["pooled"], "time_ids": time_ids}}

    def _in_float32(self, adapter: str) -> None:
        """Hold an adapter in float32: half precision would round small updates away."""
        for name, weight in self.denoiser.named_parameters():
            if f".{adapter}." in name:
                weight.data = weight.data.float()

    def value_of(self, text: str, folder: Path = Path()) -> Image:
        """The image in a file of this path; raises `UserError` if there is none."""
        try:
            return open_image(folder / text).convert("RGB")
        except OSError as error:  # Pillow's own errors are of this kind
            raise UserError(f"'{folder / text}' should be an image, but cannot be read ({error})") from error

    def _remove_reference(self) -> None:
        self.denoiser.delete_adapters(REFERENCE)

    def _add_reference(self) -> None:
        self.denoiser.add_adapter(self.denoiser.peft_config[POLICY], adapter_name=REFERENCE)
        self._in_float32(REFERENCE)

    def save(self, folder: Path) -> None:
        """Write the policy's adapter in diffusers' LoRA format (safetensors), for `pipeline.load_lora_weights`."""
        weights = get_peft_model_state_dict(self.denoiser, adapter_name=POLICY)
        settings = self.denoiser.peft_config[POLICY].to_dict()
        # Sets have no order of their own: sorted, equal adapters are equal files.
        settings = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
        metadata = {f"{self._part}_lora_adapter_metadata": settings}
        self.pipeline.save_lora_weights(folder, **{f"{self._part}_lora_layers": weights}, **metadata)
        sort_metadata(folder / ADAPTER)

    def save_adapter(self, folder: Path, *, base: str) -> None:
        """Write the adapter as `save` does; the format has no entry for `base`."""
        self.save(folder)

    def save_model(self, folder: Path, *, merged: bool) -> None:
        """Write the pipeline in `from_pretrained` format, with the source files of classes that no library has."""
        pipeline = copy(self.pipeline)
        pipeline.register_modules(**{self._part: whole_denoiser(self.denoiser, POLICY, merged=merged)})
        pipeline.save_pretrained(folder, safe_serialization=True)
        add_code(pipeline, folder)
        forget_origin(folder)

    def usage(self, condition: tuple[Any, ...], *, model: str, adapter: str | None = None) -> Usage:
        """How to draw a condition's prompt with diffusers alone."""
        return picture_usage(
            as_text(condition[0]),
            model=model,
            adapter=adapter,
            sampling=self.sampling,
            has_code=bool(own_classes(self.pipeline)),
            rounds_to=None if self.dtype == torch.float32 else str(self.dtype).removeprefix("torch."),
        )

    def load(self, folder: Path) -> None:
        """Read an adapter in diffusers' LoRA format into the policy; raises `UserError` if it does not fit."""
        before = self._policy_shapes()
        self.denoiser.delete_adapters(POLICY)
        load = self.pipeline.load_lora_weights
        load_pretrained(load, folder, adapter_name=POLICY, use_safetensors=True, what="adapter")
        check_same_weights(before, self._policy_shapes(), folder)
        # They have been rounded to the pipeline's precision.
        self._in_float32(POLICY)
        weights = load_file(folder / ADAPTER)
        exact = {name.removeprefix(f"{self._part}."): weight for name, weight in weights.items()}
        set_peft_model_state_dict(self.denoiser, exact, adapter_name=POLICY)
