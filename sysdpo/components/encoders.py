"""The outputs of a pipeline's frozen encoders, cached in the host's memory as far as there is room."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import islice
from typing import Any

import torch
from cachetools import LRUCache
from diffusers import DiffusionPipeline
from PIL.Image import Image
from torch import Tensor

from sysdpo.base.errors import tell

ROOM = 2 << 30
"""Bytes for what is said of pictures, and as much for prompts: a few thousand prompts of SDXL."""


class FrozenEncoders:
    """The autoencoder's latents and the text encoders' outputs, each computed once and cached.

    batch_size: how many images or prompts are encoded together. room: bytes for each of the two caches, which drop what
    was not used for the longest time.
    """

    def __init__(self, pipeline: DiffusionPipeline, *, batch_size: int, room: int = ROOM):
        self.pipeline, self.batch_size = pipeline, batch_size
        self._latents: LRUCache = LRUCache(room, getsizeof=_bytes)
        self._prompts: LRUCache = LRUCache(room, getsizeof=_bytes)
        self._tokenizers = [
            (part, getattr(pipeline, "tokenizer_max_length", None) if name == "tokenizer" else None)
            for name, part in pipeline.components.items()
            if name in ("tokenizer", "tokenizer_2") and part is not None
        ]
        self._told = False

    @property
    def memories(self) -> dict[str, MutableMapping[Any, Any]]:
        """The two caches by kind."""
        return {"latents": self._latents, "prompts": self._prompts}

    def latents(self, keys: Sequence[Hashable], images: Sequence[Image], device: torch.device) -> Tensor:
        """The means of the images' latents, scaled for the denoiser: float32 `[n, channels, height, width]`.

        keys: one for each image; equal keys mean equal images. device: where the latents go.
        """
        rows = self._known(self._latents, dict(zip(keys, images, strict=True)), self._encode_images, device)
        return torch.stack([rows[key]["latent"] for key in keys]).to(device)

    def prompts(self, prompts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """The encoded prompts: `tokens` `[n, length, width]` and, if the model has them, `pooled` `[n, width]`."""
        rows = self._known(self._prompts, {prompt: prompt for prompt in prompts}, self._encode_prompts, device)
        names = rows[prompts[0]]
        return {name: torch.stack([rows[prompt][name] for prompt in prompts]).to(device) for name in names}

    def _known(
        self,
        cache: LRUCache,
        items: Mapping[Hashable, Any],
        encode: Callable[[list[Any], torch.device], list[dict[str, Tensor]]],
        device: torch.device,
    ) -> dict[Hashable, dict[str, Tensor]]:
        found = {key: cache[key] for key in items if key in cache}
        for batch in batched((key for key in items if key not in found), self.batch_size):
            made = encode([items[key] for key in batch], device)
            found.update(zip(batch, made, strict=True))
        for key, row in found.items():
            if _bytes(row) <= cache.maxsize:
                cache[key] = row
        return found

    @torch.no_grad()
    def _encode_images(self, images: list[Image], device: torch.device) -> list[dict[str, Tensor]]:
        vae = self.pipeline.vae
        shipped, config = vae.dtype, vae.config
        if config.get("force_upcast"):  # it overflows in half precision
            vae.to(torch.float32)
        pixels = self.pipeline.image_processor.preprocess(images)
        latents = vae.encode(pixels.to(device, vae.dtype)).latent_dist.mode().float()
        vae.to(shipped)
        if config.get("latents_mean") is not None and config.get("latents_std") is not None:
            mean, std = (latents.new_tensor(config[name])[:, None, None] for name in ("latents_mean", "latents_std"))
            latents = (latents - mean) / std
        scaled = (latents - (config.get("shift_factor") or 0.0)) * config.scaling_factor
        return [{"latent": row.clone()} for row in scaled.cpu()]

    @torch.no_grad()
    def _encode_prompts(self, prompts: list[str], device: torch.device) -> list[dict[str, Tensor]]:
        self._tell_of_cut(prompts)
        is_transformer = getattr(self.pipeline, "unet", None) is None
        encoded = self.pipeline.encode_prompt(
            prompt=prompts,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **({"prompt_2": prompts, "prompt_3": prompts} if is_transformer else {}),
        )
        parts = {"tokens": encoded[0]} | ({"pooled": encoded[2]} if len(encoded) == 4 else {})
        return [{name: part[row].cpu().clone() for name, part in parts.items()} for row in range(len(prompts))]

    def _tell_of_cut(self, prompts: Sequence[str]) -> None:
        """Warn about a prompt that is longer than the text encoders read; drawing cuts it in the same way."""
        if self._told:
            return
        for tokenizer, own in self._tokenizers:
            most = own or tokenizer.model_max_length
            lengths = [len(tokens) for tokens in tokenizer(list(prompts))["input_ids"]]
            if max(lengths) > most:
                self._told = True
                longest = prompts[lengths.index(max(lengths))]
                tell(
                    f"the text encoder cuts prompts of more than {most} tokens, in drawing as in training; "
                    f"'{longest[:60]}…' has {max(lengths)}"
                )
                return


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items in order, in lists of up to `size`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _bytes(row: Mapping[str, Tensor]) -> int:
    return sum(part.nbytes for part in row.values())
