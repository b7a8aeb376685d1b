"""DPO on one diffusion model is Diffusion-DPO (Wallace et al., arXiv 2311.12908), written here as published.

loss = −log σ(−½ β_dpo [(‖ε_w − ε_θ(x_w)‖² − ‖ε_l − ε_θ(x_l)‖²) − (the same of the reference)]), errors as means over
elements, one timestep and one noise for both images of a pair.
"""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_models import perturb, picture
from torch.nn.functional import logsigmoid, mse_loss

from sysdpo.components.diffusion import DiffusionModel
from sysdpo.method.intermediates import BatchLogProbs
from sysdpo.method.settings import MethodSettings
from sysdpo.method.training import pair_loss

BETA, OMEGA = 0.5, 4000.0
PROMPTS = ["red cat", "big blue dog"]
CHOSEN, REJECTED = [picture(0), picture(1)], [picture(2), picture(3)]
DRAWS = [1003, 1004]


def ours(component: DiffusionModel):
    log_probs = component.log_probs([(text,) for text in PROMPTS * 2], CHOSEN + REJECTED, draw=DRAWS * 2)
    method = MethodSettings(
        objective="only_painter", learning_rate={"painter": 1.0}, chosen_weight={"painter": 0.0}, beta=BETA
    )
    return pair_loss(BatchLogProbs({"painter": log_probs}), method)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_is_the_published_one(kind: str, make_diffusion) -> None:
    component = make_diffusion(kind, weighting="simple", omega=OMEGA)
    perturb(component, size=0.5)
    seen: dict[str, torch.Tensor] = {}

    def note(module, arguments, keywords) -> None:
        seen.update(noisy=keywords["sample"].detach(), timesteps=keywords["timestep"])

    hook = component.denoiser.register_forward_pre_hook(note, with_kwargs=True)
    loss, record = ours(component)
    loss.backward()
    hook.remove()

    pipeline, timesteps = component.pipeline, seen["timesteps"]
    assert torch.equal(timesteps[:2], timesteps[2:])
    pixels = pipeline.image_processor.preprocess(CHOSEN + REJECTED)
    with torch.no_grad():
        shift = pipeline.vae.config.shift_factor
        latents = (pipeline.vae.encode(pixels).latent_dist.mode() - shift) * pipeline.vae.config.scaling_factor
        ids = pipeline.tokenizer(PROMPTS * 2, padding="max_length", max_length=6, return_tensors="pt").input_ids
        text = pipeline.text_encoder(ids)[0]
    # The noise that was drawn, from what the denoiser was shown.
    kept = pipeline.scheduler.alphas_cumprod[timesteps][:, None, None, None]
    noise = (seen["noisy"] - kept.sqrt() * latents) / (1 - kept).sqrt()
    torch.testing.assert_close(noise[:2], noise[2:], rtol=0, atol=1e-3)
    noise = noise[:2].repeat(2, 1, 1, 1)
    noisy = pipeline.scheduler.add_noise(latents, noise, timesteps)
    target = noise if kind == "epsilon" else pipeline.scheduler.get_velocity(latents, noise, timesteps)

    policy: UNet2DConditionModel = copy.deepcopy(component.denoiser)
    reference = copy.deepcopy(component.denoiser)
    reference.disable_adapters()
    model_losses = mse_loss(policy(noisy, timesteps, text).sample, target, reduction="none").mean([1, 2, 3])
    model_losses_w, model_losses_l = model_losses.chunk(2)
    with torch.no_grad():
        ref_losses = mse_loss(reference(noisy, timesteps, text).sample, target, reduction="none").mean([1, 2, 3])
    ref_losses_w, ref_losses_l = ref_losses.chunk(2)
    beta_dpo = BETA * OMEGA
    inside_term = -0.5 * beta_dpo * ((model_losses_w - model_losses_l) - (ref_losses_w - ref_losses_l))
    published = -logsigmoid(inside_term).mean()

    assert inside_term.abs().min() > 0.05
    assert loss.item() == pytest.approx(published.item(), rel=2e-3)
    assert record["accuracy"] == (inside_term > 0).float().mean().item()
    weights = [weight for name, weight in policy.named_parameters() if "lora" in name]
    for weight, gradient in zip(component.trainable_parameters(), torch.autograd.grad(published, weights), strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-2, atol=1e-3 * float(gradient.abs().max() + 1))
