"""Sampling from a system and measuring what it does."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sysdpo.base.errors import UserError
from sysdpo.base.tables import check_rows, check_scores, check_values, contents_of
from sysdpo.method.benchmark import Benchmark, Scored
from sysdpo.method.candidates import CandidateSettings
from sysdpo.method.component import Batched, Sampler
from sysdpo.method.description import ACCURACY, SCORE
from sysdpo.method.held_out import Pairs, intermediates_for, pair_margins, rightness
from sysdpo.method.offer import NO_SCORE
from sysdpo.method.preferences import as_frame
from sysdpo.method.system import System

SEEDS_PER_PURPOSE = 10**8
DRIFT_ROWS = 128
DRIFT_DRAWS = 1 << 62
"""Past every draw that a training makes: drift is measured at noise that no model was trained at."""
PURPOSES = ("train", "validation", "test")


def sample_trajectories(
    benchmark: Benchmark,
    system: System,
    prompts: pd.DataFrame,
    samples: int,
    *,
    seed: int,
    purpose: str,
    offset: int = 0,
) -> pd.DataFrame:
    """`samples` trajectories for each prompt, as a data frame with a row each.

    Their seeds depend on `seed`, `purpose` and the numbers of prompt and sample alone. So methods that are compared
    share them, and jobs that divide the prompts draw what a single job would.

    offset: the number of the first of `prompts` among all prompts.
    """
    rows = prompts.loc[prompts.index.repeat(samples)]
    first = (seed * 10 + PURPOSES.index(purpose)) * SEEDS_PER_PURPOSE + offset * samples
    seeds = range(first, first + len(rows))
    with torch.no_grad():
        variables = system.sample({name: rows[name].tolist() for name in benchmark.inputs}, seeds=seeds)
    return as_frame(rows["prompt_id"].tolist(), list(range(samples)) * len(prompts), variables)


def score_trajectories(
    benchmark: Benchmark, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path
) -> pd.DataFrame:
    """The benchmark's scores, in the order of the trajectories; without a score if it is not `Scored`.

    Raises `UserError` unless each trajectory has a finite score.
    """
    if not isinstance(benchmark, Scored):
        return trajectories[["trajectory_id", "prompt_id"]]
    scores = benchmark.score(prompts, trajectories, foundation)
    scores = check_scores(scores, "the system's scores", trajectories)
    if clashing := sorted(set(scores.columns) & set(trajectories.columns) - {"trajectory_id", "prompt_id"}):
        raise UserError(f"the system's scores: the columns {clashing} should have other names than its variables")
    return scores


def measure_trajectories(
    benchmark: Benchmark, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
) -> pd.DataFrame:
    """The benchmark's metrics, in the order of the trajectories; raises `UserError` unless each has exactly one row."""
    name, measured = "the system's metrics", benchmark.metrics(prompts, trajectories, scores, foundation)
    if "trajectory_id" in measured:
        check_rows(measured, name, keys=("trajectory_id",))
        measured = measured.set_index("trajectory_id")
        wanted = pd.Index(trajectories["trajectory_id"])
    else:
        wanted = trajectories.index
    benchmark.description.check_measured(measured.columns, name)
    if not measured.index.is_unique or set(measured.index) != set(wanted):
        raise UserError(f"{name}: its {len(measured)} rows should be those of the {len(trajectories)} trajectories")
    return measured.loc[wanted].set_index(trajectories.index)


def evaluate(
    benchmark: Benchmark,
    system: System,
    prompts: pd.DataFrame,
    foundation: Path,
    *,
    samples: int,
    best_of: int,
    seed: int,
    purpose: str,
    greedy: Collection[str] = (),
    offset: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Samples with their scores, if any, and the long table `prompt_id, content, sample, metric, value`.

    samples: trajectories for each prompt.
    best_of: above 1 that many are drawn for each sample, and the one with the highest score is kept; `kl_selection` is
    then `log n − (n−1)/n`, an upper bound of the KL divergence of that choice (Beirami et al., arXiv 2401.01879).
    greedy: the metrics that are measured once more, as `{metric}_greedy`, on one trajectory for each prompt at
    temperature 0.
    offset: the number of the first of `prompts` among all that are evaluated.
    """
    drawn = sample_trajectories(
        benchmark, system, prompts, samples * best_of, seed=seed, purpose=purpose, offset=offset
    )
    scores = score_trajectories(benchmark, prompts, drawn, foundation)
    if best_of > 1 and "score" not in scores:
        raise UserError(f"best_of: {best_of} should be 1, {NO_SCORE} to pick by")
    drawn["sample"] = drawn["sample"] // best_of
    if "score" in scores:
        kept = scores.assign(sample=drawn["sample"]).groupby(["prompt_id", "sample"], sort=False)["score"].idxmax()
        drawn, scores = drawn.loc[kept].reset_index(drop=True), scores.loc[kept].reset_index(drop=True)
    wide = measure_trajectories(benchmark, prompts, drawn, scores, foundation)
    own = {SCORE: scores["score"]} if "score" in scores else {}
    wide = wide.assign(**own, **drift(system, drawn, first=offset * samples))
    if best_of > 1:
        wide = wide.assign(kl_selection=math.log(best_of) - (best_of - 1) / best_of)
    wide = wide.assign(prompt_id=drawn["prompt_id"], sample=drawn["sample"])
    long = wide.melt(["prompt_id", "sample"], var_name="metric", value_name="value")
    if greedy:
        likeliest = _greedy_metrics(
            benchmark, system, prompts, foundation, greedy, seed=seed, purpose=purpose, offset=offset
        )
        long = pd.concat([long, likeliest], ignore_index=True)
    long.insert(1, "content", long["prompt_id"].map(contents_of(prompts)))
    check_values(long, "the system's metrics")
    return drawn.merge(scores.drop(columns="prompt_id"), on="trajectory_id"), long


def judge_pairs(
    benchmark: Benchmark,
    system: System,
    prompts: pd.DataFrame,
    held_out: Pairs,
    components: Sequence[str],
    candidates: CandidateSettings,
    *,
    seed: int,
) -> pd.DataFrame:
    """`preference_accuracy` in the long table of `evaluate`: a row for each pair of the prompts, numbered as `sample`.

    Empty if the benchmark also has a score and hidden variables cannot be summed over.

    held_out: trajectories and pairs of these prompts, and possibly of others. components: those that were trained.
    """
    columns = ["prompt_id", "content", "sample", "metric", "value"]
    trajectories, pairs = held_out
    pairs = pairs[pairs["prompt_id"].isin(prompts["prompt_id"])]
    try:
        intermediates = intermediates_for(system, trajectories.columns, candidates)
    except UserError:
        if isinstance(benchmark, Scored):
            return pd.DataFrame(columns=columns)
        raise
    margin = pair_margins(system, (trajectories, pairs), intermediates, components, seed=seed)
    judged = pairs[["prompt_id"]].assign(content=pairs["prompt_id"].map(contents_of(prompts)))
    judged = judged.assign(sample=pairs.groupby("prompt_id").cumcount(), metric=ACCURACY, value=rightness(margin))
    return judged[columns].reset_index(drop=True)


def _greedy_metrics(
    benchmark: Benchmark,
    system: System,
    prompts: pd.DataFrame,
    foundation: Path,
    names: Collection[str],
    *,
    seed: int,
    purpose: str,
    offset: int,
) -> pd.DataFrame:
    with greedy_decoding(system):
        drawn = sample_trajectories(benchmark, system, prompts, 1, seed=seed, purpose=purpose, offset=offset)
    scores = score_trajectories(benchmark, prompts, drawn, foundation)
    wide = measure_trajectories(benchmark, prompts, drawn, scores, foundation)
    if unknown := sorted(set(names) - set(wide.columns)):
        raise UserError(f"evaluation.greedy: {unknown} should be among the system's metrics {sorted(wide.columns)}")
    wide = wide[list(names)].add_suffix("_greedy").assign(prompt_id=drawn["prompt_id"], sample=drawn["sample"])
    return wide.melt(["prompt_id", "sample"], var_name="metric", value_name="value")


@contextmanager
def greedy_decoding(system: System) -> Iterator[None]:
    """A context in which every component with a `temperature` samples at 0: the likeliest token at each step."""
    drawing = [(part, part.temperature) for part in system.components.values() if isinstance(part, Sampler)]
    try:
        for sampler, _ in drawing:
            sampler.temperature = 0.0
        yield
    finally:
        for sampler, temperature in drawing:
            sampler.temperature = temperature


def drift(
    system: System, trajectories: pd.DataFrame, batch_size: int = DRIFT_ROWS, *, first: int = 0
) -> dict[str, np.ndarray]:
    """`kl_{component}` of each trajectory, in nats, from the component's `drift`: `[trajectories]` each.

    The mean estimates the KL divergence from the reference, for a diffusion model an upper bound of it.

    trajectories: sampled from the system as it is.
    batch_size: the most trajectories at once; a component may take fewer.
    first: the number of the first row; a row's number names its noise.
    """
    measured = {}
    for name in system.trainable:
        component, nodes = system.components[name], sum(node.component == name for node in system.nodes)
        together = component.batch_size if isinstance(component, Batched) else batch_size
        size = max(1, min(batch_size, together // nodes))
        parts = []
        for start in range(0, len(trajectories), size):
            rows = trajectories.iloc[start : start + size]
            variables: dict[str, Sequence] = {str(key): rows[key].tolist() for key in rows.columns}
            draw = range(DRIFT_DRAWS + first + start, DRIFT_DRAWS + first + start + len(rows))
            parts.append(system.drift(variables, draw=draw, components=[name])[name].kl.cpu().numpy())
        measured[f"kl_{name}"] = np.concatenate(parts)
    return measured
