"""What a training looks at now and then beside what it learns from.

It changes nothing of the training, not even its rounding.

Two questions that the loss does not answer. How far has each model gone, in its own eyes: its entropy and its KL
divergence from the reference, on values that it draws itself. And could the objectives differ at all: while β·Δ stays
small the sigmoid is linear, and `direct` and `separate` pull each model in one direction.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sysdpo.base.seeds import numpy_generator
from sysdpo.method.checkpoints import forgetful
from sysdpo.method.intermediates import BatchLogProbs
from sysdpo.method.objectives import Link, direct, margins, separate
from sysdpo.method.system import System

PROMPTS = 16
"""How many training prompts the policy answers, each time with the same seeds."""


def gradient_cosines(
    batch: BatchLogProbs, weights: Mapping[str, Sequence[nn.Parameter]], link: Link
) -> dict[str, float]:
    """`gradient_cosine_{component}`: the cosine between the gradients of `direct` and of `separate` on the same pairs.

    Empty if a single component is trained, for which the two objectives agree, or if intermediates are hidden, which
    neither objective allows. Accumulated gradients are left alone. Our choice of a measure.

    weights: the trained parameters of each component.
    """
    if batch.marginal is not None or len(weights) < 2:
        return {}
    ratios = {name: (policy - reference).chunk(2) for name, (policy, reference) in batch.components.items()}
    margin = margins(*({name: both[half] for name, both in ratios.items()} for half in (0, 1)))
    flat = [weight for own in weights.values() for weight in own]
    both_ways = [
        torch.autograd.grad(objective(margin, link).mean(), flat, retain_graph=True) for objective in (direct, separate)
    ]
    found, start = {}, 0
    for name, own in weights.items():
        end = start + len(own)
        joint, alone = (torch.cat([part.flatten() for part in gradient[start:end]]).double() for gradient in both_ways)
        start = end
        found[f"gradient_cosine_{name}"] = float(torch.cosine_similarity(joint, alone, dim=0))
    return found


def drift_of_draws(
    system: System, trajectories: pd.DataFrame, components: Sequence[str], *stream: int
) -> dict[str, float]:
    """`kl_{component}` and `entropy_{component}` in nats: means over one new trajectory for each of the first prompts.

    A component whose likelihood is only known up to a constant has no entropy here.

    trajectories: with the columns `prompt_id` and the system's inputs. stream: numbers that the draws depend on.
    """
    prompts = trajectories.drop_duplicates("prompt_id").head(PROMPTS)
    seeds = numpy_generator("monitor", *stream).integers(1 << 62, size=len(prompts)).tolist()
    with torch.no_grad(), system.unsharded(), forgetful(system):
        drawn = system.sample({name: prompts[name].tolist() for name in system.inputs}, seeds=seeds)
        measured = system.drift(drawn, draw=seeds, components=components)
    means: dict[str, Tensor] = {}
    for name, (kl, entropy) in measured.items():
        means |= {f"kl_{name}": kl.mean(), f"entropy_{name}": entropy.mean()}
    return {name: float(mean) for name, mean in means.items() if np.isfinite(float(mean))}
