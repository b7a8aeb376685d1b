"""Does each objective reach β-perfect alignment? Exact expectations over systems that can be enumerated.

There is no sampling noise: for every prompt all ordered pairs count, weighted by how often people prefer the first,
`P*(first ≻ second)`. `direct` and `separate` compare whole trajectories, each pair of them equally often; `sampling`
compares outputs. What they reach is the alignment gap of `sysdpo.applications.tabular`, which also says what to expect.
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
MOMENTS = 30
OBJECTIVES = {"direct": direct, "separate": separate}


@dataclass(frozen=True)
class Run:
    """One training: which method, and which hidden assignments it sees.

    kept: bool `[P, Y]`, those in the data of `direct` and `separate`. candidates: `K` of `sampling`.
    """

    method: str
    kept: Tensor | None = None
    candidates: int | None = None
    refreshed: bool = False


def run(settings: Theory) -> pd.DataFrame:
    """Trains every method on every system: a row a run and recorded step, with the columns `COLUMNS`.

    `candidates` is empty for methods without; `coverage` is the share of `p_ref(y|x)` that the hidden assignments seen
    at the start hold, the mean over prompts; gaps are in units of the preference's logit.
    """
    rows: list[dict[str, Any]] = []
    for name in settings.systems:
        for shared in settings.shared:
            for each in _runs(tabular.build(name, shared=shared, seed=settings.seed), settings.coverages):
                fresh = tabular.build(name, shared=shared, seed=settings.seed)
                rows += [{"system": name, "shared": shared, **row} for row in train(fresh, each, settings)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"candidates": "Int64"})


def train(system: Tabular, described: Run, settings: Theory) -> list[dict[str, Any]]:
    """Full-batch training from the reference; returns a row for each of about `MOMENTS` log-spaced steps."""
    parameters = [each for table in system.tables.values() for each in table.trainable_parameters()]
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    recorded = {0, *np.geomspace(1, settings.steps, MOMENTS).round().astype(int).tolist()}
    hidden = system.log_joints().policy.detach().logsumexp(-1)
    kept = likeliest(hidden, described.candidates) if described.candidates else described.kept
    assert kept is not None
    fixed = {
        "method": described.method,
        "candidates": described.candidates,
        "refreshed": described.refreshed,
        "coverage": float((hidden.exp() * kept).sum(-1).mean()),
    }
    objective = make_loss(system, described.method, kept, settings.beta)
    rows = []
    for step in range(settings.steps + 1):
        if described.refreshed and step % settings.refresh == 0:
            hidden = system.log_joints().policy.detach().logsumexp(-1)
            kept = likeliest(hidden, described.candidates or hidden.shape[-1])
            objective = make_loss(system, described.method, kept, settings.beta)
        loss = objective()
        if step in recorded:
            rows.append({**fixed, "step": step, **_gaps(system, settings.beta), "loss": loss.item()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return rows


def make_loss(system: Tabular, method: str, kept: Tensor, beta: float) -> Callable[[], Tensor]:
    """The expected loss, a scalar, as a function of the policy's present tables.

    kept: bool `[P, Y]`, as many a prompt or not: the hidden assignments in the data, or the candidates of `sampling`.
    """
    link = make_link("sigmoid", beta=beta)
    preferred = system.preferences()
    if method == "sampling":
        outside = torch.zeros(kept.shape, dtype=torch.float64).masked_fill(~kept, -torch.inf)[:, None, :]
        weights = preferred / preferred.sum()

        def sampling_loss() -> Tensor:
            joints = [each.transpose(1, 2) + outside for each in system.log_joints()]
            policy, reference = (truncated(each, each) for each in joints)
            log_ratio = policy - reference
            return (link(log_ratio[:, :, None] - log_ratio[:, None, :]) * weights).sum()

        return sampling_loss

    prompts, hidden, outputs = system.shape
    shape = (prompts, hidden * outputs, hidden * outputs)
    seen = kept[:, :, None].expand(system.shape).reshape(prompts, -1)
    weights = preferred[:, None, :, None, :].expand(prompts, hidden, outputs, hidden, outputs).reshape(shape)
    weights = weights * (seen[:, :, None] & seen[:, None, :])
    weights = weights / weights.sum()

    def trajectory_loss() -> Tensor:
        log_ratios = {name: (each.policy - each.reference).flatten(1) for name, each in system.log_probs().items()}
        chosen, rejected = ({name: r.unsqueeze(axis) for name, r in log_ratios.items()} for axis in (2, 1))
        return (OBJECTIVES[method](margins(chosen, rejected), link) * weights).sum()

    return trajectory_loss


def likeliest(log_probs: Tensor, count: int) -> Tensor:
    """Which `count` hidden assignments of each prompt are the likeliest: bool `[P, Y]` from `log p(y|x)`, `[P, Y]`."""
    chosen = torch.zeros(log_probs.shape, dtype=torch.bool)
    return chosen.scatter(-1, log_probs.topk(count, dim=-1).indices, torch.ones_like(chosen))


def covering(log_probs: Tensor, share: float) -> Tensor:
    """The fewest, likeliest hidden assignments of each prompt that hold this share: bool `[P, Y]`."""
    ordered = log_probs.exp().sort(dim=-1, descending=True)
    # An assignment is needed while those before it fall short; rounding must not ask for one more.
    needed = ordered.values.cumsum(-1) - ordered.values < share - 1e-12
    return torch.zeros_like(needed).scatter(-1, ordered.indices, needed)


def _runs(system: Tabular, coverages: tuple[float, ...]) -> Iterator[Run]:
    hidden = system.log_joints().reference.logsumexp(-1)
    everything = Run("direct", torch.ones(hidden.shape, dtype=torch.bool))
    yield everything
    yield replace(everything, method="separate")
    seen = [everything.kept]
    for share in coverages:
        kept = covering(hidden, share)
        if not any(torch.equal(kept, each) for each in seen if each is not None):
            seen.append(kept)
            yield Run("direct", kept)
    for count in range(1, hidden.shape[-1] + 1):
        yield Run("sampling", candidates=count)
        if count < hidden.shape[-1]:  # all of them, chosen again, are all of them
            yield Run("sampling", candidates=count, refreshed=True)


@torch.no_grad()
def _gaps(system: Tabular, beta: float) -> dict[str, float]:
    gaps = system.alignment_gaps(beta)
    outputs = gaps.shape[-1]
    return {
        "max_gap": gaps.max().item(),
        "mean_gap": gaps.mean().item() * outputs / (outputs - 1),  # an output is no pair with itself
    }
