"""The cost of generation: completions and candidates token by token, pictures step by step."""

import inspect
from dataclasses import replace
from typing import Any

import torch

from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import GumbelNoise, LanguageModel
from sysdpo.components.lora import merged
from sysdpo.components.meter import Meter, Usage


@torch.no_grad()
def generation(
    meter: Meter, model: LanguageModel, prompts: list[list[int]], weights: float, *, width: int = 1, shares: bool
) -> Usage:
    """The cost of `width` completions of each prompt; `shares`: whether the prompts' common prefix is read only once.

    weights: of the model in bytes, read for every token. All completions have `max_new_tokens`, since one of a batch is
    assumed to. The cost of a token grows linearly with the number of tokens before it, so only the second and the last
    are computed and averaged.
    """
    steps, tokens = model.max_new_tokens - 1, sum(map(len, prompts)) + len(prompts) * width * model.max_new_tokens
    reading, second = _read_and_continue(meter, model, prompts, width, shares)
    if not steps:
        return Usage(reading.flops, reading.peak, read=weights, tokens=tokens)
    longer = [[*prompt, *[0] * (steps - 1)] for prompt in prompts]
    longest, last = _read_and_continue(meter, model, longer, width, shares)
    between = (second + last).times(steps / 2)
    read = (steps + 1) * weights + steps * (reading.kept + longest.kept) / 2
    peak = max(reading.peak, longest.kept + last.peak)
    return Usage((reading + between).flops, peak, read=read, tokens=tokens)


def _read_and_continue(
    meter: Meter, model: LanguageModel, prompts: list[list[int]], width: int, shares: bool
) -> tuple[Usage, Usage]:
    """The costs of reading prompts into a cache, and of one more token of each of `width` completions."""
    arguments: dict[str, Any] = {"use_cache": True, "logits_to_keep": 1}
    name, rows = model.architecture.cache, torch.arange(len(prompts), device=model.device).repeat_interleave(width)

    def read() -> None:
        input_ids, mask = model._pad(prompts)
        shared = model._encode_shared(prompts, padding=(~mask).sum(1)) if shares else None
        known = 0 if shared is None else shared.get_seq_length()
        arguments[name] = model.architecture.new_cache() if shared is None else shared
        model.model(input_ids=input_ids[:, known:], attention_mask=mask.long(), **arguments)
        arguments["attention_mask"] = torch.cat([mask, mask[:, :1]], 1).long()[rows]
        if width > 1:
            arguments[name].reorder_cache(rows)

    def go_on() -> None:
        token = torch.zeros_like(rows)[:, None]
        scores = model.model(input_ids=token, **arguments).logits[:, -1].to(torch.float32, copy=True)
        GumbelNoise(range(len(rows)), 1.0)(token, scores)

    return meter.measured(read), meter.measured(go_on)


@torch.no_grad()
def drawing(meter: Meter, model: DiffusionModel, conditions: list[tuple[Any, ...]]) -> Usage:
    """The cost of a picture per condition: encoding its prompt, denoising its latents and decoding them."""
    pipeline, vae, count = model.pipeline, model.pipeline.vae, len(conditions)
    usual = inspect.signature(pipeline.__call__).parameters["guidance_scale"].default
    guided = 2 if model.sampling.get("guidance_scale", usual) > 1 else 1
    side = [pixels // pipeline.vae_scale_factor for pixels in model.picture_size]
    # Some schedulers call the denoiser more often than `num_inference_steps`.
    pipeline.scheduler.set_timesteps(model.sampling["num_inference_steps"])

    inputs: dict[str, torch.Tensor] = {}

    def read() -> None:
        encoded = model.encoders.prompts([str(condition[0]) for condition in conditions], model.device)
        inputs.update({name: tensor.repeat(guided, *[1] * (tensor.dim() - 1)) for name, tensor in encoded.items()})
        inputs["latents"] = torch.empty(count, model.denoiser.config.in_channels, *side, device=model.device)

    def denoise() -> torch.Tensor:
        step, noisy = torch.zeros(count * guided, dtype=torch.long), inputs["latents"].repeat(guided, 1, 1, 1)
        with merged(model.denoiser):
            return model._predicted(noisy, step, inputs)

    def decode() -> None:
        shipped = vae.dtype
        if shipped == torch.float16 and vae.config.get("force_upcast"):  # as the pipelines do
            vae.to(torch.float32)
        vae.decode(inputs["latents"].to(vae.dtype), return_dict=False)
        vae.to(shipped)

    reading = meter.measured(read)
    drawn = meter.measured(denoise).times(len(pipeline.scheduler.timesteps)) + meter.measured(decode)
    for memory in model.memories.values():
        memory.clear()
    return replace(reading + drawn, peak=max(reading.peak, reading.kept + drawn.peak), images=count)
