"""The linear autoencoder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sysdpo.applications.images.autoencoder import PatchAutoencoder
from sysdpo.applications.images.painter import to_pixels
from sysdpo.applications.images.renderer import render

RNG = np.random.default_rng(0)
PIXELS = to_pixels(render(RNG.random((64, 3)), ["ginger"] * 64, ["red"] * 64))


def decoded(vae: PatchAutoencoder, pixels: torch.Tensor) -> torch.Tensor:
    return vae.decode(vae.encode(pixels).latent_dist.mode()).sample


def test_with_all_components_nothing_is_lost() -> None:
    vae = PatchAutoencoder.fitted(PIXELS, patch=4, components=48)
    torch.testing.assert_close(decoded(vae, PIXELS), PIXELS, rtol=0, atol=2e-3)


def test_more_components_lose_less() -> None:
    errors = [
        float((decoded(PatchAutoencoder.fitted(PIXELS, components=n), PIXELS) - PIXELS).square().mean())
        for n in (2, 8, 32, 64)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01


def test_scaled_latents_have_unit_size_and_the_right_shape() -> None:
    vae = PatchAutoencoder.fitted(PIXELS, components=16)
    posterior = vae.encode(PIXELS).latent_dist
    latents = posterior.mode() * vae.config.scaling_factor
    assert latents.shape == (64, 16, 4, 4)
    assert latents.square().mean().sqrt().item() == pytest.approx(1.0, rel=0.05)
    assert torch.equal(posterior.sample(), posterior.mode())


def test_it_is_saved_and_loaded_as_any_diffusers_model(tmp_path: Path) -> None:
    vae = PatchAutoencoder.fitted(PIXELS, components=8)
    vae.save_pretrained(tmp_path)
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(decoded(loaded, PIXELS), decoded(vae, PIXELS))
    assert loaded.config.scaling_factor == vae.config.scaling_factor
    assert not any(weight.requires_grad for weight in loaded.parameters())
