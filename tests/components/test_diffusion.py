"""The diffusion bound: what the denoiser is shown, and what is made of its error."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import perturb, picture
from torch import Tensor

from sysdpo.components.diffusion import DiffusionModel
from sysdpo.method.values import picture_key

KINDS = ("epsilon", "v_prediction", "sample", "flow", "xl")
CONDITIONS = [("red cat",), ("big blue dog",), ("red cat",)]
IMAGES = [picture(0), picture(1), picture(2)]
DRAWS = [101, 102, 103]


@dataclass
class Call:
    """One call of the denoiser: what it was shown and what it answered."""

    noisy: Tensor
    timestep: Tensor
    prediction: Tensor


@pytest.fixture
def watch():
    """A function: a component to the list that its denoiser's calls are added to."""

    def start(component: DiffusionModel) -> list[Call]:
        calls: list[Call] = []

        def note(module: Any, arguments: Any, keywords: dict[str, Any], output: Any) -> None:
            noisy = keywords.get("sample", keywords.get("hidden_states"))
            calls.append(Call(noisy.detach(), keywords["timestep"].clone(), output.sample.detach()))

        component.denoiser.register_forward_hook(note, with_kwargs=True)
        return calls

    return start


def clean_latents(component: DiffusionModel, images: list) -> Tensor:
    """As diffusers' own training scripts compute them."""
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in images])
    vae = component.pipeline.vae
    shift = vae.config.shift_factor or 0.0
    with torch.no_grad():
        return (vae.encode(pixels).latent_dist.mode() - shift) * vae.config.scaling_factor


def alpha_and_sigma(component: DiffusionModel, timestep: Tensor) -> tuple[Tensor, Tensor]:
    scheduler = component.pipeline.scheduler
    if "prediction_type" not in scheduler.config:
        sigma = timestep / 1000
        return (1 - sigma)[:, None, None, None], sigma[:, None, None, None]
    kept = scheduler.alphas_cumprod[timestep.long()][:, None, None, None]
    return kept.sqrt(), (1 - kept).sqrt()


def noise_of(component: DiffusionModel, call: Call, clean: Tensor) -> Tensor:
    """The noise that must have been added."""
    alpha, sigma = alpha_and_sigma(component, call.timestep)
    return (call.noisy - alpha * clean) / sigma


def target_of(component: DiffusionModel, kind: str, call: Call, clean: Tensor) -> Tensor:
    alpha, sigma = alpha_and_sigma(component, call.timestep)
    noise = noise_of(component, call, clean)
    velocity = alpha * noise - sigma * clean
    targets = {"v_prediction": velocity, "sample": clean, "flow": noise - clean}
    return targets.get(kind, noise)


@pytest.mark.parametrize("kind", KINDS)
def test_simple_log_probs_are_minus_half_omega_times_the_mean_error(kind: str, make_diffusion, watch) -> None:
    component = make_diffusion(kind, weighting="simple", omega=30.0)
    perturb(component)
    calls = watch(component)
    log_probs = component.log_probs(CONDITIONS, IMAGES, draw=DRAWS)
    clean = clean_latents(component, IMAGES)
    by_call = []
    for call in calls:
        target = target_of(component, kind, call, clean)
        by_call.append((-15.0 * ((target - call.prediction) ** 2).flatten(1).mean(1)).tolist())
    assert len(calls) == 2
    assert log_probs.policy.tolist() in [pytest.approx(each, rel=1e-3) for each in by_call]
    assert log_probs.reference.tolist() in [pytest.approx(each, rel=1e-3) for each in by_call]
    assert (log_probs.policy - log_probs.reference).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_elbo_log_probs_weigh_the_summed_error_as_the_bound_does(kind: str, make_diffusion, watch) -> None:
    component = make_diffusion(kind, weighting="elbo")
    calls = watch(component)
    log_probs = component.log_probs(CONDITIONS, IMAGES, draw=DRAWS)
    clean = clean_latents(component, IMAGES)
    target = target_of(component, kind, calls[-1], clean)
    error = ((target - calls[-1].prediction) ** 2).flatten(1).sum(1)
    timestep = calls[-1].timestep.long()
    index = timestep - 1 if kind == "flow" else timestep
    expected = -0.5 * component.schedule.elbo_weight[index] * error
    assert log_probs.policy.tolist() == pytest.approx(expected.tolist(), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_policy_and_reference_are_exactly_equal_before_training(kind: str, make_diffusion) -> None:
    policy, reference = make_diffusion(kind).log_probs(CONDITIONS, IMAGES, draw=DRAWS)
    assert torch.equal(policy, reference)
    assert policy.dtype == torch.float32
    assert policy.shape == (3,)


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_one_draw_is_one_timestep_and_noise_for_policy_reference_and_both_images(
    kind: str, make_diffusion, watch
) -> None:
    component = make_diffusion(kind)
    perturb(component)
    calls = watch(component)
    component.log_probs([("red cat",), ("big dog",), ("cat",)], IMAGES, draw=[7, 7, 8])
    first, second = calls
    assert torch.equal(first.noisy, second.noisy)
    assert torch.equal(first.timestep, second.timestep)
    noise = noise_of(component, first, clean_latents(component, IMAGES))
    assert first.timestep[0] == first.timestep[1] != first.timestep[2]
    torch.testing.assert_close(noise[0], noise[1], rtol=0, atol=1e-3)
    assert (noise[0] - noise[2]).abs().max() > 0.5


def test_noise_is_standard_normal(make_diffusion, watch) -> None:
    component = make_diffusion("flow")
    calls = watch(component)
    component.log_probs([("cat",)] * 60, [picture(0)] * 60, draw=range(60))
    noise = noise_of(component, calls[0], clean_latents(component, [picture(0)]))
    # 60 · 8 · 4 · 4 = 7680 numbers: standard errors 0.011 and 0.008.
    assert noise.mean().item() == pytest.approx(0.0, abs=0.05)
    assert noise.std().item() == pytest.approx(1.0, abs=0.05)


def test_several_draws_are_averaged_and_antithetic_ones_mirrored(make_diffusion, watch) -> None:
    component = make_diffusion("flow", draws=4, antithetic=True, omega=2.0)
    calls = watch(component)
    log_probs = component.log_probs([("cat",)], [picture(0)], draw=[5])
    clean = clean_latents(component, [picture(0)])
    call = calls[-1]
    noise = noise_of(component, call, clean)
    assert len(call.timestep) == 4
    assert call.timestep[0] == call.timestep[1] != call.timestep[2] == call.timestep[3]
    torch.testing.assert_close(noise[0], -noise[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(noise[2], -noise[3], rtol=0, atol=1e-3)
    assert (noise[0] - noise[2]).abs().max() > 0.5
    errors = ((noise - clean - call.prediction) ** 2).flatten(1).mean(1)
    assert log_probs.policy.item() == pytest.approx(-errors.mean().item(), rel=1e-3)


def test_plain_draws_are_not_mirrored(make_diffusion, watch) -> None:
    component = make_diffusion("flow", draws=2)
    calls = watch(component)
    component.log_probs([("cat",)], [picture(0)], draw=[5])
    assert calls[0].timestep[0] != calls[0].timestep[1]


def test_timesteps_stay_in_the_asked_part_of_the_schedule(make_diffusion, watch) -> None:
    component = make_diffusion("flow", noise_range=(0.5, 0.8))
    calls = watch(component)
    component.log_probs([("cat",)] * 30, [picture(0)] * 30, draw=range(30))
    assert calls[0].timestep.min() > 500
    assert calls[0].timestep.max() <= 801
    assert calls[0].timestep.max() - calls[0].timestep.min() > 200


@pytest.mark.parametrize("kind", ["epsilon", "flow", "xl"])
def test_a_row_does_not_depend_on_its_batch(kind: str, make_diffusion) -> None:
    component = make_diffusion(kind)
    perturb(component)
    together = component.log_probs(CONDITIONS, IMAGES, draw=DRAWS).policy
    for row in range(3):
        alone = component.log_probs([CONDITIONS[row]], [IMAGES[row]], draw=[DRAWS[row]]).policy
        assert alone.item() == pytest.approx(together[row].item(), rel=1e-4)
    order = [2, 0, 1]
    permuted = [[part[i] for i in order] for part in (CONDITIONS, IMAGES, DRAWS)]
    torch.testing.assert_close(
        component.log_probs(permuted[0], permuted[1], draw=permuted[2]).policy, together[order], rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("kind", ["epsilon", "flow", "xl"])
def test_the_prompt_and_the_image_matter(kind: str, make_diffusion) -> None:
    component = make_diffusion(kind)
    base = component.log_probs([("red cat",)], [picture(0)], draw=[3]).policy
    assert not torch.equal(component.log_probs([("big blue dog",)], [picture(0)], draw=[3]).policy, base)
    assert not torch.equal(component.log_probs([("red cat",)], [picture(1)], draw=[3]).policy, base)


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_only_the_adapter_is_trained(kind: str, make_diffusion) -> None:
    component = make_diffusion(kind)
    policy, _ = component.log_probs(CONDITIONS, IMAGES, draw=DRAWS)
    policy.sum().backward()
    parts = {
        f"{part}.{name}": weight
        for part, module in component.pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        for name, weight in module.named_parameters()
    }
    asking = {name for name, weight in parts.items() if weight.requires_grad}
    assert len(asking) == len(component.trainable_parameters()) > 0
    assert all("lora" in name for name in asking)
    moved = [weight.grad.abs().max() > 0 for name, weight in parts.items() if "lora_B" in name]
    assert any(moved)


@pytest.mark.parametrize("kind", ["epsilon", "flow", "xl"])
def test_a_drawn_image_depends_on_its_own_seed_and_prompt_alone(kind: str, make_diffusion) -> None:
    component = make_diffusion(kind)
    perturb(component)
    together = [np.asarray(image, int) for image in component.sample(CONDITIONS, seeds=[1, 2, 3])]
    assert together[0].shape == (32, 32, 3)
    assert abs(together[0] - together[2]).max() > 10  # the same prompt with another seed
    component.batch_size = 2
    order = [2, 0, 1]
    permuted = component.sample([CONDITIONS[i] for i in order], seeds=[[1, 2, 3][i] for i in order])
    for place, row in enumerate(order):
        assert abs(np.asarray(permuted[place], int) - together[row]).max() <= 1


def test_sampling_uses_the_adapter_and_leaves_the_schedule_alone(painter: DiffusionModel) -> None:
    before = painter.log_probs(CONDITIONS, IMAGES, draw=DRAWS).reference
    drawn = np.asarray(painter.sample([("cat",)], seeds=[1])[0], int)
    perturb(painter, size=1.0)
    assert abs(np.asarray(painter.sample([("cat",)], seeds=[1])[0], int) - drawn).max() > 3
    assert torch.equal(painter.log_probs(CONDITIONS, IMAGES, draw=DRAWS).reference, before)


def test_pipelines_load_by_the_named_class(painter_folder) -> None:
    lora = {"r": 2, "target_modules": ["to_q"]}
    name = "sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline"
    component = DiffusionModel.from_pretrained(painter_folder, pipeline=name, lora=lora)
    assert type(component.pipeline).__name__ == "SmallStableDiffusion3Pipeline"
    assert component.is_transformer


def test_a_reference_once_computed_is_the_one_that_would_be_computed_again(make_diffusion) -> None:
    component, fresh = make_diffusion("flow", draws=2), make_diffusion("flow", draws=2)
    component.log_probs(CONDITIONS[:2], IMAGES[:2], draw=[5, 6])
    perturb(component)
    # Asked again together with new rows, and with rows that differ in their draw, image or prompt alone.
    rows = [("red cat",), ("red cat",), ("red cat",), ("cat",)], [IMAGES[0], IMAGES[0], IMAGES[1], IMAGES[0]]
    again = component.log_probs(*rows, draw=[5, 6, 5, 5])
    expected = fresh.log_probs(*rows, draw=[5, 6, 5, 5]).reference
    torch.testing.assert_close(again.reference, expected, rtol=1e-5, atol=0)
    assert len(set(expected.tolist())) == 4
    assert not again.reference.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_drift_is_the_weighted_distance_between_the_two_predictions(make_diffusion, watch, kind: str) -> None:
    component = make_diffusion(kind, omega=30.0, draws=4, antithetic=True, noise_range=(0.4, 0.6))
    assert component.drift(CONDITIONS, IMAGES, draw=DRAWS).kl.tolist() == [0.0, 0.0, 0.0]
    perturb(component)
    calls = watch(component)
    kl, entropy = component.drift(CONDITIONS, IMAGES, draw=DRAWS)
    policy, reference = calls
    assert torch.equal(policy.noisy, reference.noisy)
    # Over the whole schedule, wherever training looks.
    steps = [component.schedule.stratified_step(draw) for draw in DRAWS]
    assert torch.equal(policy.timestep, component.schedule.timestep[steps])
    weight = component.schedule.elbo_weight[steps]
    distance = (policy.prediction.float() - reference.prediction.float()).square().flatten(1).sum(1)
    torch.testing.assert_close(kl, weight / 2 * distance)
    assert (kl > 0).all()
    assert entropy.isnan().all()


def test_parts_of_the_schedule_add_up_to_the_whole_bound(make_diffusion) -> None:
    """Only so is a part of the bound in nats."""
    bounds = []
    for noise_range in ((0.1, 0.9), (0.1, 0.5), (0.5, 0.9)):
        component = make_diffusion("flow", weighting="elbo", noise_range=noise_range, draws=400)
        with torch.no_grad():
            bounds.append(component.log_probs([("cat",)], [picture(0)], draw=[3]).policy.item())
    whole, low, high = bounds
    assert low + high == pytest.approx(whole, rel=0.1)


def test_pictures_with_the_same_bytes_and_another_shape_are_apart() -> None:
    white = [Image.new("RGB", size, "white") for size in ((8, 4), (4, 8))]
    assert picture_key(white[0]) != picture_key(white[1])
    assert picture_key(white[0]) == picture_key(white[0].copy())
    assert picture_key(Image.new("L", (24, 1))) != picture_key(Image.new("RGB", (8, 1)))
