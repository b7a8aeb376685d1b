"""Noise schedules: targets by hand, weights against closed forms and a case whose answer is known in nats."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from sysdpo.components.noise import NoiseSchedule

KINDS = ("epsilon", "v_prediction", "sample", "flow")


def schedule(kind: str, **settings) -> NoiseSchedule:
    if kind == "flow":
        return NoiseSchedule.of(FlowMatchEulerDiscreteScheduler(**settings))
    return NoiseSchedule.of(DDPMScheduler(prediction_type=kind, **settings))


def by_hand(kind: str) -> NoiseSchedule:
    """One timestep, with alpha 0.6 and sigma 0.8."""
    one = torch.ones(1)
    return NoiseSchedule(one, 0.6 * one, 0.8 * one, kind, one)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("epsilon", [-1.0, 0.5]),  # the noise
        ("v_prediction", [-2.2, -2.9]),  # 0.6 · (−1) − 0.8 · 2 and 0.6 · 0.5 − 0.8 · 4
        ("sample", [2.0, 4.0]),  # the clean value
        ("flow", [-3.0, -3.5]),  # −1 − 2 and 0.5 − 4
    ],
)
def test_target_of_each_prediction_type(kind: str, target: list[float]) -> None:
    clean, noise = torch.tensor([[2.0, 4.0]]), torch.tensor([[-1.0, 0.5]])
    noisy, computed = by_hand(kind).corrupt(clean, noise, torch.tensor([0]))
    # 0.6 · 2 + 0.8 · (−1) = 0.4 and 0.6 · 4 + 0.8 · 0.5 = 2.8
    assert noisy[0].tolist() == pytest.approx([0.4, 2.8])
    assert computed[0].tolist() == pytest.approx(target)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noise_and_targets_are_those_of_the_diffusers_scheduler(kind: str) -> None:
    scheduler = DDPMScheduler(prediction_type=kind)
    steps = torch.tensor([0, 400, 999])
    clean, noise = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    noisy, target = NoiseSchedule.of(scheduler).corrupt(clean, noise, steps)
    torch.testing.assert_close(noisy, scheduler.add_noise(clean, noise, steps))
    velocity = scheduler.get_velocity(clean, noise, steps)
    torch.testing.assert_close(target, velocity if kind == "v_prediction" else noise)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_schedule_is_the_diffusers_scheduler_s_even_after_sampling(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    timesteps = scheduler.timesteps.clone()
    scheduler.set_timesteps(5)
    read = NoiseSchedule.of(scheduler)
    torch.testing.assert_close(read.timestep, timesteps.flip(0))
    torch.testing.assert_close(read.sigma, read.timestep / 1000)
    torch.testing.assert_close(read.alpha + read.sigma, torch.ones(1000))


def test_flow_weight_has_its_closed_form() -> None:
    # λ = 2 log((1−σ)/σ), so −dλ/dσ = 2/(σ(1−σ)); an error of ε − x_0 is 1/(1−σ) of the noise's: times (1−σ)².
    read = schedule("flow")
    inner = slice(20, 980)
    expected = 2 * (1 - read.sigma) / read.sigma
    torch.testing.assert_close(read.elbo_weight[inner], expected[inner], rtol=2e-3, atol=1e-5)
    assert read.elbo_weight[499].item() == pytest.approx(2.0, rel=1e-3)  # at σ = 1/2


def test_epsilon_weight_is_the_slope_of_the_log_signal_to_noise_ratio() -> None:
    # A step multiplies ᾱ by 1 − β, β from 1e-4 to 0.02 in 1000 steps: −d log ᾱ/dt = 1000 β = 0.1 + 19.9 t,
    # and with λ = log(ᾱ/(1 − ᾱ)) −dλ/dt = (0.1 + 19.9 t)/(1 − ᾱ).
    read = schedule("epsilon")
    time = torch.arange(1000) / 999
    expected = (0.1 + 19.9 * time) / (1 - read.alpha**2)
    inner = slice(50, 950)
    torch.testing.assert_close(read.elbo_weight[inner], expected[inner], rtol=0.02, atol=0.0)


def test_one_denoiser_has_one_bound_whatever_it_is_made_to_predict() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise, guess = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    steps = torch.tensor([30, 200, 400, 500, 700, 850, 960])
    bounds = {}
    for kind in ("epsilon", "v_prediction", "sample"):
        read = schedule(kind)
        noisy, target = read.corrupt(clean, noise, steps)
        alpha, sigma = read.alpha[steps, None].double(), read.sigma[steps, None].double()
        noise_guess = (noisy - alpha * guess) / sigma
        predictions = {
            "epsilon": noise_guess,
            "v_prediction": alpha * noise_guess - sigma * guess,
            "sample": guess,
        }
        bounds[kind] = read.elbo_weight[steps] * ((target - predictions[kind]) ** 2).sum(1)
    torch.testing.assert_close(bounds["v_prediction"], bounds["epsilon"], rtol=1e-4, atol=0)
    torch.testing.assert_close(bounds["sample"], bounds["epsilon"], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_in_nats(kind: str) -> None:
    """The right denoiser's bound minus a wrong one's is the KL divergence of what they believe in.

    Data are N(0, 1). Believing in N(0, s²), the best guess is x̂_0 = k x_t with k = α s²/(α² s² + σ²), and its mean
    squared error (1 − kα)² + k² σ². The divergence is KL(N(0, 1) ‖ N(0, 2)) = (1/2 − 1 + ln 2)/2 = 0.0965736.
    """
    read = schedule(kind)
    alpha, sigma = read.alpha.double(), read.sigma.double().clamp_min(1e-4)

    def bound(variance: float) -> float:
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        clean_error = (1 - gain * alpha) ** 2 + gain**2 * sigma**2
        error = {
            "sample": clean_error,
            "epsilon": (alpha / sigma) ** 2 * clean_error,
            "v_prediction": clean_error / sigma**2,
            "flow": clean_error / sigma**2,
        }[kind]
        return float((read.elbo_weight.double() / 2 * error).mean())

    assert bound(2.0) - bound(1.0) == pytest.approx((0.5 - 1 + math.log(2)) / 2, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_finite_and_positive(kind: str) -> None:
    assert torch.isfinite(schedule(kind).elbo_weight).all()
    assert (schedule(kind).elbo_weight > 0).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.25, 0.75)])
def test_consecutive_draws_cover_their_part_of_the_schedule_evenly(low: float, high: float) -> None:
    read = schedule("epsilon")
    steps = torch.tensor([read.stratified_step(draw, low, high) for draw in range(10_000, 10_200)])
    assert steps.min() >= 1000 * low
    assert steps.max() < 1000 * high
    # 200 draws in 10 equal parts: 20 each; the golden-ratio sequence misses that by at most 2.
    counts = torch.histc(steps.double(), bins=10, min=1000 * low, max=1000 * high)
    assert (counts - 20).abs().max() <= 2


def test_a_step_is_a_function_of_its_draw() -> None:
    read = schedule("flow")
    assert read.stratified_step(123_456_789) == read.stratified_step(123_456_789)
    assert len({read.stratified_step(draw) for draw in range(50)}) == 50


def test_no_draw_lies_outside_of_the_schedule() -> None:
    schedule = NoiseSchedule.of(DDPMScheduler(num_train_timesteps=100))
    for draw in (10241603497632500931, np.int64(2**62), -1, 2**70):
        assert 0 <= schedule.stratified_step(draw) < 100
    steps = [schedule.stratified_step(2**60 + number) for number in range(100)]
    assert len({step // 10 for step in steps}) == 10  # large draws cover the schedule as evenly as small ones
