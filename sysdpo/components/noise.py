"""The noise schedules of diffusion models, all as `x_t = α_t·x_0 + σ_t·ε` over a table of training timesteps."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

GOLDEN_RATIO = 0x9E3779B97F4A7C15  # of 2⁶⁴


@dataclass(frozen=True)
class NoiseSchedule:
    """Tables over the `T` training timesteps, each of shape `[T]`, and what the network predicts.

    prediction: `epsilon` (the noise), `v_prediction` (`α·ε − σ·x_0`), `sample` (`x_0`) or `flow` (`ε − x_0`).
    elbo_weight: the bound's weight on the squared error of the prediction, summed over elements, in nats:
        `−dλ/dt` with `λ = log(α²/σ²)` and `t` in [0, 1] (Kingma et al., arXiv 2107.00630, equation 17), times the
        factor that turns the prediction's error into the noise's.
    """

    timestep: Tensor
    alpha: Tensor
    sigma: Tensor
    prediction: str
    elbo_weight: Tensor

    @classmethod
    def of(cls, scheduler: Any) -> "NoiseSchedule":
        """Read the training schedule from a diffusers scheduler."""
        fresh = type(scheduler).from_config(scheduler.config)  # sampling overwrites a scheduler's own tables
        if "prediction_type" in fresh.config:
            prediction = fresh.config.prediction_type
            alpha, sigma = fresh.alphas_cumprod.sqrt(), (1 - fresh.alphas_cumprod).sqrt()
            timestep = torch.arange(len(alpha))
        else:
            prediction = "flow"
            order = fresh.sigmas.argsort()
            sigma, timestep = fresh.sigmas[order].cpu(), fresh.timesteps[order].cpu()
            alpha = 1 - sigma
        alpha, sigma = alpha.float(), sigma.float()
        return cls(timestep, alpha, sigma, prediction, _elbo_weight(alpha, sigma, prediction))

    def stratified_step(self, draw: int, low: float = 0.0, high: float = 1.0) -> int:
        """A timestep index in [low, high) of the schedule, which consecutive draws cover evenly.

        The draws follow the golden-ratio sequence (our choice). low, high: shares of the schedule, 0 the cleanest end.
        """
        # In whole numbers, since a large draw has no fraction left as a float.
        fraction = ((int(draw) * GOLDEN_RATIO + (1 << 63)) % (1 << 64) >> 11) / (1 << 53)
        position = low + (high - low) * fraction
        return int(position * len(self.timestep))

    def corrupt(self, clean: Tensor, noise: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """`(x_t, target)`, what the network reads and what it should predict, of the shape of `clean`.

        clean, noise: `[batch, …]`. step: timestep indices, int64 `[batch]`.
        """
        shape = (-1, *(1,) * (clean.dim() - 1))
        alpha, sigma = (table[step].to(clean).reshape(shape) for table in (self.alpha, self.sigma))
        noisy = alpha * clean + sigma * noise
        targets = {
            "epsilon": lambda: noise,
            "v_prediction": lambda: alpha * noise - sigma * clean,
            "sample": lambda: clean,
            "flow": lambda: noise - clean,
        }
        return noisy, targets[self.prediction]()


def _elbo_weight(alpha: Tensor, sigma: Tensor, prediction: str) -> Tensor:
    # Float64 and a floor: at the ends of a schedule α or σ is 0 and the log signal-to-noise ratio infinite.
    alpha, sigma = alpha.double().clamp_min(1e-4), sigma.double().clamp_min(1e-4)
    log_snr = 2 * (alpha.log() - sigma.log())
    slope = -torch.gradient(log_snr, spacing=1 / len(alpha))[0]
    to_noise_error = {
        "epsilon": torch.ones_like(alpha),
        "v_prediction": alpha**2,
        "sample": (alpha / sigma) ** 2,
        "flow": alpha**2,
    }
    return (slope * to_noise_error[prediction]).float()
