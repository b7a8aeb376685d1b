"""Means, intervals and paired comparisons, from one value per sample to the tables behind everything that is shown.

Means are taken in three stages: over samples within a prompt, prompts within a seed, and seeds. All seeds answer the
same prompts, and prompts may share a content, so the intervals (`sysdpo.report.intervals`) are those of a crossed
design: they generalise to new seeds and new contents, with one seed to new contents only. Their coverage is in
`docs/statistics.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import require_columns
from sysdpo.base.tables import check_contents, check_rows
from sysdpo.method.description import DRIFT, SCORE, WON, Metric
from sysdpo.report.intervals import INTERVALS

VALUE_COLUMNS = ("system", "method", "seed", "prompt_id", "content", "sample", "metric", "value")
METRIC_COLUMNS = (
    "system", "method", "metric", "mean", "ci_low", "ci_high", "n_prompts", "n_contents", "n_seeds",
    "higher_is_better",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "system", "metric", "method", "baseline", "difference", "ci_low", "ci_high", "n_prompts", "n_contents",
    "n_seeds",
)  # fmt: skip

PROMPT = ["seed", "content", "prompt_id"]
LIMITS = {"mean": (-np.inf, np.inf), "proportion": (0.0, 1.0), "proportion difference": (-1.0, 1.0)}
MetricOf = Callable[[str, str], Metric]
"""Returns a metric from the names of system and metric; raises `UserError` if it is not described."""

# Machines may sum in different orders, which changes the last bits; nothing that is read has more digits than this.
DECIMALS = 10


class Estimate(NamedTuple):
    """A mean with its 95 % interval, and the numbers of prompts, contents and seeds behind it."""

    mean: float
    low: float
    high: float
    n_prompts: int
    n_contents: int
    n_seeds: int


def estimate(values: pd.Series, kind: str = "mean", what: str = "the table of values") -> Estimate:
    """The mean of prompts' values and its interval, with equal weights for all prompts and all seeds.

    values: indexed by `PROMPT`, in any order. kind: a key of `INTERVALS`. what: the values' name in errors. Raises
    UserError if a seed lacks a prompt that another has, if there is only one seed and one content, and for values
    outside of the limits of their kind.
    """
    grid = values.unstack("seed").sort_index().sort_index(axis=1)
    if grid.isna().to_numpy().any():
        row, column = np.argwhere(grid.isna().to_numpy())[0]
        raise UserError(
            f"{what}: prompt '{grid.index[row][1]}' has no value for seed {grid.columns[column]}, but for another; "
            "evaluate all seeds on the same prompts"
        )
    contents, names = pd.factorize(grid.index.get_level_values("content"))
    if len(names) * grid.shape[1] < 2:
        raise UserError(f"{what}: one prompt of one seed has no interval; evaluate more prompts, or more seeds")
    matrix = grid.to_numpy(dtype=np.float64).T
    least, most = LIMITS[kind]
    if wrong := [value for value in (matrix.min(), matrix.max()) if not least <= value <= most]:
        raise UserError(f"{what}: {wrong[0]:g} is no share; the values of a metric in % should lie between 0 and 1")
    mean, low, high = (round(float(number), DECIMALS) for number in INTERVALS[kind](matrix, contents))
    return Estimate(mean, low, high, grid.shape[0], len(names), grid.shape[1])


def _prompt_means(values: pd.DataFrame) -> pd.DataFrame:
    """Check the table and average samples: one row per system, metric, method and `PROMPT`."""
    name = "the table of values"
    require_columns(values, VALUE_COLUMNS, name)
    if values.empty:
        raise UserError(f"{name} is empty: there is nothing to summarise; evaluate at least one method")
    keys = [column for column in VALUE_COLUMNS if column not in ("content", "value")]
    check_rows(values, name, keys=keys, numbers=("value",))
    for _, rows in values.groupby("system"):
        check_contents(rows, name)
    ordered = values.sort_values(["system", "metric", "method", *PROMPT, "sample"])
    groups = ordered.groupby(["system", "metric", "method", *PROMPT], sort=True, observed=True)
    return groups["value"].mean().reset_index()


def win_rates(values: pd.DataFrame, rivals: Sequence[str], score: str = SCORE) -> pd.DataFrame:
    """How often a method's output scores higher than a rival's on the same prompt, seed and sample; ties count half.

    `values` as in `summarise`, with the metric `score`. Returns rows of the same form with metrics
    `win_rate_vs_{rival}`, for every method but the rival. Raises `UserError` for a rival without scores.
    """
    scores = values[values["metric"] == score]
    keys = ["system", "seed", "prompt_id", "sample"]
    tables = [values.iloc[:0]]
    for rival in rivals:
        theirs = scores[scores["method"] == rival]
        if theirs.empty:
            known = ", ".join(sorted(set(scores["method"])))
            raise UserError(f"evaluation.win_rates_against: '{rival}' has no values of '{score}'; there are {known}.")
        ours = scores[scores["method"] != rival]
        both = ours.merge(theirs[[*keys, "value"]], on=keys, suffixes=("", "_rival"), validate="many_to_one")
        if len(both) < len(ours):
            row = ours[~ours.set_index(keys).index.isin(both.set_index(keys).index)].iloc[0]
            raise UserError(
                f"evaluation.win_rates_against: prompt '{row['prompt_id']}' of seed {row['seed']} was evaluated for "
                f"'{row['method']}' but not for '{rival}'; evaluate both on the same prompts"
            )
        won = (np.sign(both["value"] - both["value_rival"]) + 1) / 2
        tables.append(both.assign(metric=f"{WON}{rival}", value=won)[list(values.columns)])
    return pd.concat(tables, ignore_index=True)


def summarise(values: pd.DataFrame, metric_of: MetricOf) -> pd.DataFrame:
    """Mean and interval of every metric of every method, as `results/metrics.csv`.

    `values`: one row per sample and metric in any order, with the columns `VALUE_COLUMNS`. Returns the columns
    `METRIC_COLUMNS`, sorted by system, method and metric. Raises `UserError` on an empty table, a missing column, a
    value that is not finite, a repeated row, or a metric that is not described.
    """
    rows = []
    for (system, method, metric), group in _prompt_means(values).groupby(["system", "method", "metric"], sort=True):
        described = metric_of(str(system), str(metric))
        kind = "proportion" if described.is_proportion else "mean"
        estimated = estimate(group.set_index(PROMPT)["value"], kind, f"'{metric}' of '{method}'")
        rows.append((system, method, metric, *estimated, described.higher_is_better))
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def compare(
    values: pd.DataFrame, baselines: Sequence[str], methods: Sequence[str], metric_of: MetricOf
) -> pd.DataFrame:
    """Every method minus every baseline, paired by prompt and seed, as `results/comparisons.csv`.

    `values` as in `summarise`. A method is not compared with itself, and a metric is skipped if one of the two does not
    have it. Returns the columns `COMPARISON_COLUMNS`, sorted by system, metric, method and baseline; `difference` is
    method minus baseline, with the interval of the per-prompt differences. Raises `UserError` as `summarise` does, for
    a method or baseline without values, and if the two were not evaluated on the same prompts and seeds.
    """
    means = _prompt_means(values)
    known = set(means["method"])
    for name in [*methods, *baselines]:
        if name not in known:
            raise UserError(f"Method '{name}' has no values to compare; there are {', '.join(sorted(known))}.")
    rows = []
    for (system, metric), group in means.groupby(["system", "metric"], sort=True):
        columns = {str(name): table.set_index(PROMPT)["value"] for name, table in group.groupby("method")}
        kind = "proportion difference" if metric_of(str(system), str(metric)).is_proportion else "mean"
        for method in sorted(set(methods) & columns.keys()):
            for baseline in sorted((set(baselines) & columns.keys()) - {method}):
                difference = _paired(columns[method], columns[baseline], str(metric), method, baseline)
                estimated = estimate(difference, kind, f"'{metric}' of '{method}' minus '{baseline}'")
                rows.append((system, metric, method, baseline, *estimated))
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def _paired(values: pd.Series, rival: pd.Series, metric: str, method: str, baseline: str) -> pd.Series:
    """The per-prompt differences; both series are indexed by `PROMPT` and sorted."""
    alone = values.index.symmetric_difference(rival.index)
    if len(alone):
        seed, _, prompt = alone[0]
        has, lacks = (method, baseline) if alone[0] in values.index else (baseline, method)
        raise UserError(
            f"Methods '{method}' and '{baseline}' cannot be paired on '{metric}': prompt '{prompt}' of seed "
            f"{seed} was evaluated for '{has}' but not for '{lacks}' ({len(alone)} such prompts); evaluate "
            "both on the same prompts."
        )
    return values - rival


def total_drift(values: pd.DataFrame) -> pd.DataFrame:
    """Each method's sum of all drift metrics with its interval: indexed by method, columns `mean, ci_low, ci_high`.

    `values`: one row per sample and metric, with columns seed, method, prompt_id, content, sample, metric, value.
    """
    drifts = values[values["metric"].str.startswith(DRIFT)]
    samples = drifts.groupby(["method", *PROMPT, "sample"], sort=True)["value"].sum()
    prompts = samples.groupby(level=["method", *PROMPT], sort=True).mean()
    rows = {
        str(name): estimate(drift.droplevel("method"), what=f"the drift of '{name}'")[:3]
        for name, drift in prompts.groupby(level="method")
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "ci_low", "ci_high"])


def value_of(metrics: pd.DataFrame, method: str | None, metric: str) -> pd.Series | None:
    """The row of one method and metric, or None."""
    rows = metrics[(metrics["method"] == method) & (metrics["metric"] == metric)]
    return None if rows.empty else rows.iloc[0]


def difference_of(comparisons: pd.DataFrame, method: str | None, baseline: str | None, metric: str) -> pd.Series | None:
    """The row of `method` minus `baseline`, or None."""
    chosen = (comparisons["method"] == method) & (comparisons["baseline"] == baseline)
    rows = comparisons[chosen & (comparisons["metric"] == metric)]
    return None if rows.empty else rows.iloc[0]
