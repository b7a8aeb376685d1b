"""How a system judges preference pairs that it was not trained on, relative to its reference.

A pair's margin is `Σ_k Δ_k` over the trained components where the trajectories have values of every variable, and
`R(w) − R(l)` of the marginals where they do not. One rule for all methods, however they were trained, so that they can
be compared.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch

from sysdpo.base.seeds import numpy_generator
from sysdpo.method.candidates import CandidateSettings
from sysdpo.method.component import Batched
from sysdpo.method.intermediates import BatchLogProbs, HiddenIntermediates, Intermediates, KnownIntermediates
from sysdpo.method.objectives import margins
from sysdpo.method.system import System

Pairs = tuple[pd.DataFrame, pd.DataFrame]
"""Trajectories, and pairs of them, whose index numbers them among all that are held out."""

DRAWS = 1 << 61
"""Past every draw that a training makes: held-out pairs are judged at noise that no model was trained at."""
ROWS = 256


def intermediates_for(system: System, columns: Iterable[str], candidates: CandidateSettings) -> Intermediates:
    """How to treat the intermediates of trajectories with these columns: known, or summed over if some are missing.

    Raises `UserError` if the missing ones cannot be summed over.
    """
    known = set(columns)
    if all(node.name in known for node in system.nodes):
        return KnownIntermediates(system)
    return HiddenIntermediates(system, candidates)


def pair_margins(
    system: System,
    held_out: Pairs,
    intermediates: Intermediates,
    components: Sequence[str],
    *,
    seed: int,
    rows: int = ROWS,
) -> np.ndarray:
    """The margin of each pair, float `[pairs]`; 0 if nothing was trained.

    components: the trained ones. rows: the most rows that a component gets at once; it may take fewer itself.
    """
    trajectories, pairs = held_out
    found = [np.zeros(0)] if components else [np.zeros(len(pairs))]
    table = trajectories.set_index("trajectory_id")
    seen = intermediates.variables(table.columns)
    numbers, prompts = pairs.index.to_numpy(), pairs["prompt_id"].tolist()
    # Of all pairs of a prompt the candidates are the same, whichever batch they are in.
    first = dict(zip(reversed(prompts), reversed(numbers.tolist()), strict=True))
    seeds = {prompt: int(numpy_generator("held out", seed, at).integers(1 << 62)) for prompt, at in first.items()}
    size = _pairs_at_once(system, intermediates, rows)
    for start in range(0, len(pairs) if components else 0, size):
        some, keys = pairs.iloc[start : start + size], prompts[start : start + size]
        both = table.loc[[*some["chosen_id"], *some["rejected_id"]]]
        columns = {name: both[name].tolist() for name in seen}
        inputs = {name: columns[name][: len(some)] for name in system.inputs}
        draw = [DRAWS + int(number) for number in numbers[start : start + size]] * 2
        with torch.no_grad():
            intermediates.prepare(inputs, keys, seeds=[seeds[key] for key in keys])
            batch = intermediates.log_probs(columns, keys * 2, draw=draw, components=components)
            found.append(total_margin(batch).double().cpu().numpy())
    return np.concatenate(found)


def total_margin(batch: BatchLogProbs) -> torch.Tensor:
    """`Σ_k Δ_k`, or with hidden intermediates `R(w) − R(l)`: `[pairs]`."""
    if batch.marginal is not None:
        chosen, rejected = (batch.marginal.policy - batch.marginal.reference).chunk(2)
        return chosen - rejected
    ratios = {name: (policy - reference).chunk(2) for name, (policy, reference) in batch.components.items()}
    halves = ({name: ratio[half] for name, ratio in ratios.items()} for half in (0, 1))
    return torch.stack(list(margins(*halves).values())).sum(0)


def rightness(margin: np.ndarray) -> np.ndarray:
    """1 for each pair with a margin above 0, 0 below, 1/2 at 0: `[pairs]`."""
    return (np.sign(margin) + 1) / 2


def _pairs_at_once(system: System, intermediates: Intermediates, rows: int) -> int:
    most = min([rows, *(part.batch_size for part in system.components.values() if isinstance(part, Batched))])
    owners = [node.component for node in system.nodes]
    nodes = max(owners.count(name) for name in owners)
    return max(1, most // (2 * nodes * intermediates.copies))
