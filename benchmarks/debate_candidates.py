"""How well few candidates stand for all that a debate may have said, by how many rounds are hidden.

    python benchmarks/debate_candidates.py FOUNDATION --output build/debate_candidates.csv

FOUNDATION: the folder of the two debaters, `results/debate/runs/debate/0/foundation` after a run. Of sampled debates
`log p(closings | halves)` is estimated from K candidates for the hidden rounds, and from many ancestral draws, which
stand for the truth. Shown are the mass of the candidates, the mean error of the estimate in nats, and the mean absolute
error of the difference between two debates of one prompt, which is what a preference term sees. "Kept draws" are those
K of 64 draws, distinct ones, that are likeliest given the closings, summed over the two debates; no training has them.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from sysdpo.applications.debate.debate import DebateBenchmark
from sysdpo.applications.debate.settings import Debate
from sysdpo.method.candidates import CandidateSettings
from sysdpo.method.evaluation import sample_trajectories
from sysdpo.method.intermediates import BatchLogProbs, HiddenIntermediates
from sysdpo.method.system import System
from sysdpo.run.cli import prepare

POOL = 64
KEPT = "kept draws"
SCALE = Path("workflow/scales/debate.yaml")
WAYS = {
    "diverse beams": {"generator": "diverse_beam"},
    "beams": {"generator": "beam"},
    "distinct draws": {"generator": "ancestral"},
    "weighted draws": {"generator": "ancestral", "estimator": "importance"},
    KEPT: {"generator": "ancestral"},
}


@torch.no_grad()
def log_marginals(
    system: System, rows: pd.DataFrame, settings: CandidateSettings, seed: int, *, kept: int | None = None
) -> tuple[np.ndarray, float]:
    """Estimates of `log p(closings | halves)`, one a row, and the mean mass of the candidates.

    kept: how many candidates of each prompt are left, those of most posterior probability, summed over its rows.
    """
    hidden = HiddenIntermediates(system, settings)
    columns = {name: rows[name].tolist() for name in (*system.inputs, *system.outputs)}
    keys = rows["prompt_id"].tolist()
    hidden.prepare(columns, keys, seeds=[seed + number for number in pd.factorize(rows["prompt_id"])[0]])

    def estimated() -> BatchLogProbs:
        return hidden.log_probs(columns, keys, draw=[0] * len(rows), components=system.trainable)

    if kept is not None:
        pools = dict(hidden.sets)
        joints = np.full((len(keys), max(map(len, pools.values()))), -np.inf)  # of each debate with each candidate
        for number in range(joints.shape[1]):
            hidden.sets = {key: [pool[min(number, len(pool) - 1)]] for key, pool in pools.items()}
            for row, joint in enumerate(estimated().marginal.policy.tolist()):
                joints[row, number] = joint if number < len(pools[keys[row]]) else -np.inf
        posteriors = np.exp(joints - np.logaddexp.reduce(joints, 1, keepdims=True))
        weights = pd.DataFrame(posteriors).groupby(keys).sum()
        best = {key: np.argsort(-weights.loc[key].to_numpy(), kind="stable")[:kept] for key in pools}
        hidden.sets = {key: [pool[number] for number in best[key] if number < len(pool)] for key, pool in pools.items()}
    found = estimated()
    mass = found.measures.get("candidate_mass")
    return found.marginal.policy.numpy(), float("nan") if mass is None else float(mass.mean())


def main() -> None:
    """Measure, print and write."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("foundation", type=Path)
    options.add_argument("--output", type=Path, required=True)
    options.add_argument("--prompts", type=int, default=24)
    options.add_argument("--draws", type=int, default=2000, help="that stand for the truth")
    options.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    chosen = options.parse_args()
    prepare()
    described = yaml.safe_load(SCALE.read_text())["systems"]["debate"]
    found = []
    for rounds in (2, 3, 4):
        benchmark = DebateBenchmark(Debate(**described | {"rounds": rounds}), "systems.debate")
        system = benchmark.system(chosen.foundation).to()
        prompts = benchmark.prompts().query("split == 'validation'").head(chosen.prompts).reset_index(drop=True)
        rows = sample_trajectories(benchmark, system, prompts, 2, seed=0, purpose="validation")
        size = 250
        many = CandidateSettings(generator="ancestral", estimator="importance", count=size)
        parts = [log_marginals(system, rows, many, 10**6 * (1 + part))[0] for part in range(chosen.draws // size)]
        truth = np.logaddexp.reduce(parts, 0) - np.log(len(parts))
        for way, how in ((name, WAYS[name]) for name in chosen.ways):
            for count in (2, 4, 8, 16):
                drawn, kept = (POOL, count) if way == KEPT else (count, None)
                estimate, mass = log_marginals(system, rows, CandidateSettings(count=drawn, **how), 7, kept=kept)
                error = estimate - truth
                pairs = error.reshape(-1, 2)
                difference = np.abs(pairs[:, 0] - pairs[:, 1])
                reached = np.isfinite(error)
                row = {"hidden nodes": 2 * (rounds - 1), "way": way, "candidates": count, "mass": mass}
                row |= {
                    "error": error[reached].mean(),
                    "error of difference": difference[np.isfinite(difference)].mean(),
                }
                found.append(row)
                print(row, flush=True)
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(found).to_csv(chosen.output, index=False)


if __name__ == "__main__":
    main()
