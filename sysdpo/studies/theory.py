"""Does each objective reach β-perfect alignment? Exact expectations over systems that can be enumerated.

There is no sampling noise: for every prompt all ordered pairs count, weighted by the probability that people prefer the
first, `P*(first ≻ second)`. `direct` and `separate` compare whole trajectories, all pairs equally often; `sampling`
compares outputs. The result is the alignment gap of `sysdpo.applications.tabular`, which also says what to expect.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sysdpo.applications import tabular
from sysdpo.applications.tabular import Tabular
from sysdpo.method.objectives import direct, make_link, margins, separate, truncated
from sysdpo.studies.settings import Theory

COLUMNS = (
    *("system", "shared", "method", "candidates", "refreshed", "coverage"),
    *("step", "max_gap", "mean_gap", "loss"),
)
RECORDED_STEPS = 30
OBJECTIVES = {"direct": direct, "separate": separate}


@dataclass(frozen=True)
class Run:
    """One training: the method, and the hidden assignments it sees.

    seen: bool `[P, Y]`, those in the data of `direct` and `separate`. candidates: `K` of `sampling`.
    """

    method: str
    seen: Tensor | None = None
    candidates: int | None = None
    refreshed: bool = False


def run(settings: Theory) -> pd.DataFrame:
    """Train every method on every system: one row per run and recorded step, with the columns `COLUMNS`.

    `candidates` is empty for methods without; `coverage` is the share of `p_ref(y|x)` on the hidden assignments seen at
    the start, averaged over prompts; gaps are in units of the preference's logit.
    """
    rows: list[dict[str, Any]] = []
    for name in settings.systems:
        for shared in settings.shared:
            for training in _runs(tabular.build(name, shared=shared, seed=settings.seed), settings.coverages):
                fresh = tabular.build(name, shared=shared, seed=settings.seed)
                rows += [{"system": name, "shared": shared, **row} for row in train(fresh, training, settings)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"candidates": "Int64"})


def train(system: Tabular, training: Run, settings: Theory) -> list[dict[str, Any]]:
    """Full-batch training from the reference; returns a row for each of about `RECORDED_STEPS` log-spaced steps."""
    parameters = [weight for table in system.tables.values() for weight in table.trainable_parameters()]
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    recorded = {0, *np.geomspace(1, settings.steps, RECORDED_STEPS).round().astype(int).tolist()}
    hidden = system.log_joints().policy.detach().logsumexp(-1)
    seen = likeliest(hidden, training.candidates) if training.candidates else training.seen
    assert seen is not None
    fixed = {
        "method": training.method,
        "candidates": training.candidates,
        "refreshed": training.refreshed,
        "coverage": float((hidden.exp() * seen).sum(-1).mean()),
    }
    objective = make_loss(system, training.method, seen, settings.beta)
    rows = []
    for step in range(settings.steps + 1):
        if training.refreshed and step % settings.refresh == 0:
            hidden = system.log_joints().policy.detach().logsumexp(-1)
            seen = likeliest(hidden, training.candidates or hidden.shape[-1])
            objective = make_loss(system, training.method, seen, settings.beta)
        loss = objective()
        if step in recorded:
            rows.append({**fixed, "step": step, **_gaps(system, settings.beta), "loss": loss.item()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return rows


def make_loss(system: Tabular, method: str, seen: Tensor, beta: float) -> Callable[[], Tensor]:
    """A function that returns the expected loss, a scalar, for the policy's current tables.

    seen: bool `[P, Y]`, the hidden assignments in the data, or the candidates of `sampling`; their number may vary.
    """
    link = make_link("sigmoid", beta=beta)
    preferred = system.preferences()
    if method == "sampling":
        outside = torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -torch.inf)[:, None, :]
        weights = preferred / preferred.sum()

        def sampling_loss() -> Tensor:
            joints = [log_probs.transpose(1, 2) + outside for log_probs in system.log_joints()]
            policy, reference = (truncated(log_probs, log_probs) for log_probs in joints)
            log_ratio = policy - reference
            return (link(log_ratio[:, :, None] - log_ratio[:, None, :]) * weights).sum()

        return sampling_loss

    prompts, hidden, outputs = system.shape
    shape = (prompts, hidden * outputs, hidden * outputs)
    in_data = seen[:, :, None].expand(system.shape).reshape(prompts, -1)
    weights = preferred[:, None, :, None, :].expand(prompts, hidden, outputs, hidden, outputs).reshape(shape)
    weights = weights * (in_data[:, :, None] & in_data[:, None, :])
    weights = weights / weights.sum()

    def trajectory_loss() -> Tensor:
        log_ratios = {name: (policy - reference).flatten(1) for name, (policy, reference) in system.log_probs().items()}
        chosen, rejected = ({name: r.unsqueeze(axis) for name, r in log_ratios.items()} for axis in (2, 1))
        return (OBJECTIVES[method](margins(chosen, rejected), link) * weights).sum()

    return trajectory_loss


def likeliest(log_probs: Tensor, count: int) -> Tensor:
    """A mask of the `count` likeliest hidden assignments of each prompt, bool `[P, Y]`, from `log p(y|x)`, `[P, Y]`."""
    chosen = torch.zeros(log_probs.shape, dtype=torch.bool)
    return chosen.scatter(-1, log_probs.topk(count, dim=-1).indices, torch.ones_like(chosen))


def covering(log_probs: Tensor, share: float) -> Tensor:
    """A mask of the fewest, likeliest hidden assignments of each prompt that cover this share: bool `[P, Y]`."""
    ordered = log_probs.exp().sort(dim=-1, descending=True)
    # An assignment is needed if those before it fall short; the tolerance keeps rounding from adding one more.
    needed = ordered.values.cumsum(-1) - ordered.values < share - 1e-12
    return torch.zeros_like(needed).scatter(-1, ordered.indices, needed)


def _runs(system: Tabular, coverages: tuple[float, ...]) -> Iterator[Run]:
    hidden = system.log_joints().reference.logsumexp(-1)
    everything = Run("direct", torch.ones(hidden.shape, dtype=torch.bool))
    yield everything
    yield replace(everything, method="separate")
    earlier = [everything.seen]
    for share in coverages:
        seen = covering(hidden, share)
        if not any(torch.equal(seen, mask) for mask in earlier if mask is not None):
            earlier.append(seen)
            yield Run("direct", seen)
    for count in range(1, hidden.shape[-1] + 1):
        yield Run("sampling", candidates=count)
        if count < hidden.shape[-1]:  # choosing all of them anew changes nothing
            yield Run("sampling", candidates=count, refreshed=True)


@torch.no_grad()
def _gaps(system: Tabular, beta: float) -> dict[str, float]:
    gaps = system.alignment_gaps(beta)
    outputs = gaps.shape[-1]
    return {
        "max_gap": gaps.max().item(),
        "mean_gap": gaps.mean().item() * outputs / (outputs - 1),  # an output forms no pair with itself
    }
