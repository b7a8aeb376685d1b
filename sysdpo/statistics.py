"""Intervals and paired comparisons, from one value a sample to the tables that everything shown is made from.

Every mean is taken in three stages: samples within a prompt, prompts within a seed, seeds. Every interval is
a 95 % percentile bootstrap over prompts nested in seeds: each replicate draws as many seeds as there are,
with replacement, and for each drawn seed as many prompts as it has, with replacement. A seed is a whole run
(its own foundation models and preference data), so the interval speaks of new seeds and new prompts, not of
the same models asked again.

What a reader should know of it (our choice; Davison and Hinkley 1997, section 3.8, discuss the scheme). With
S seeds and n prompts each, seed variance a and prompt variance b, the variance of the mean is (a + b/n)/S;
the bootstrap's is (1 - 1/S)(a + b/n)/S + b/(nS) on average. With three seeds of 200 prompts (measured on
simulated normal values):
- where runs agree (a = 0) the interval is 1.3 times as wide as it need be and covers the truth in 98 % of
  cases: it errs on the careful side; where a = b/n, as much from runs as from prompts, it covers 93 %;
- where runs disagree more than prompts explain, three numbers say little and have only ten distinct
  resamples: "95 %" covers 85 % at a = 5 b/n and 73 % when runs are all that matters. More seeds is the only
  cure.

With one seed the interval speaks of prompts only. Where the same prompts serve all seeds they are still drawn
anew for each, as the design is nested: what a prompt does alike to all runs does not average out as the
resampling assumes, so the interval of a mean is somewhat narrow for new prompts. Differences between methods,
paired by prompt and seed, are free of it as far as a prompt is as hard for one method as for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sysdpo.errors import UserError
from sysdpo.files import require_columns
from sysdpo.tables import check_rows

VALUE_COLUMNS = ("system", "method", "seed", "prompt_id", "sample", "metric", "value")
METRIC_COLUMNS = (
    "system", "method", "metric", "mean", "ci_low", "ci_high", "n_prompts", "n_seeds", "higher_is_better",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "system", "metric", "method", "baseline", "difference", "ci_low", "ci_high", "n_prompts", "n_seeds",
)  # fmt: skip

REPLICATES = 4000
BOOTSTRAP_SEED = 20250222
CONFIDENCE = 0.95
# Summation order may differ between machines in the last bits; nothing anyone reads lies beyond this digit.
DECIMALS = 10


@dataclass(frozen=True)
class Metric:
    """How a metric is called, shown and judged. Values are stored as fractions; `%` metrics are shown times
    100.
    """

    label: str
    higher_is_better: bool
    unit: str = ""
    digits: int = 2
    meaning: str = ""

    @property
    def scale(self) -> float:
        """What a stored value is multiplied by when shown."""
        return 100.0 if self.unit == "%" else 1.0


METRICS: dict[str, Metric] = {
    "order_consistency": Metric(
        "Order consistency", True, "%", 1, "share of triplets whose asked attribute strictly rises"
    ),
    "preference_score": Metric(
        "Preference score", True, "", 3, "rise of the asked attribute from first to last, less its unevenness"
    ),
    "spread": Metric("Spread", True, "", 3, "asked attribute of the last image minus that of the first"),
    "well_formed": Metric("Well-formed", True, "%", 1, "share of outputs that follow the format"),
    "image_distance": Metric("Image distance", False, "", 3, "distance to the nearest clean render: image quality"),
    "readout_score": Metric("Read-out score", True, "", 3, "the preference score by a read-out that trained nothing"),
    "readout_order_consistency": Metric(
        "Read-out order", True, "%", 1, "order consistency by a read-out that trained nothing"
    ),
    "caption_fidelity": Metric(
        "Caption fidelity", True, "", 3, "cosine of each image with its own caption in CLIP's space, mean of the three"
    ),
    "accuracy": Metric("Accuracy", True, "%", 1, "share of right final answers, sampled"),
    "reward": Metric("Reward", True, "", 3, "reward of the final answer, by the model that preferences come from"),
    "judge_score": Metric("Judge", True, "", 3, "reward of the final answer, by a second model that trained nothing"),
    "draft_reward": Metric("Draft reward", True, "", 3, "reward of the draft, were it the answer"),
    "length": Metric("Length", False, "tokens", 1, "length of the final answer"),
    "draft_length": Metric("Draft length", False, "tokens", 1, "length of the draft"),
    "alignment_gap": Metric("Alignment gap", False, "nats", 4, "distance from beta-perfect alignment"),
}


GREEDY = "_greedy"


def describe_metric(name: str) -> Metric:
    """The metric's entry in `METRICS`, or one made for the families `<metric>_greedy`, `kl_<component>` and
    `win_rate_vs_<method>`.

    Raises UserError for a name that is in neither: the direction of a metric is never guessed.
    """
    if name in METRICS:
        return METRICS[name]
    if name.endswith(GREEDY):
        base = describe_metric(name.removesuffix(GREEDY))
        label = f"{base.label[0].lower()}{base.label[1:]}"
        return replace(base, label=f"Greedy {label}", meaning=f"{base.meaning}, greedy decoding")
    if name.startswith("kl_"):
        component = name.removeprefix("kl_")
        return Metric(f"KL, {component}", False, "nats", 2, f"drift of the {component} from its reference")
    if name.startswith("win_rate_vs_"):
        rival = name.removeprefix("win_rate_vs_")
        return Metric(f"Win rate vs {rival}", True, "%", 1, f"share of outputs judged better than those of {rival}")
    raise UserError(
        f"Metric '{name}' has no direction: add it to sysdpo.statistics.METRICS (known: {', '.join(METRICS)})."
    )


@lru_cache(maxsize=4)
def _draws(sizes: tuple[int, ...]) -> tuple[NDArray[np.int64], tuple[NDArray[np.float64], ...]]:
    """Which seed stands in each place `[replicates, seeds]`, and how often each of its prompts was drawn.

    Kept between calls: all rows of a table then share their resamples, so their intervals are comparable.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    places = generator.integers(len(sizes), size=(REPLICATES, len(sizes)))
    counts = tuple(
        generator.multinomial(size, np.full(size, 1 / size), size=int((places == index).sum())).astype(np.float64)
        for index, size in enumerate(sizes)
    )
    return places, counts


def bootstrap(by_seed: Sequence[NDArray[np.float64]]) -> tuple[float, float, float]:
    """Mean and 95 % percentile interval `(mean, low, high)` of prompt values, one array `[prompts]` a seed.

    Seeds weigh the same whatever their number of prompts. Deterministic; the module's docstring says what the
    interval covers.
    """
    places, counts = _draws(tuple(len(values) for values in by_seed))
    replicates = np.empty(places.shape)
    for index, values in enumerate(by_seed):
        replicates[places == index] = counts[index] @ values / len(values)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates.mean(axis=1), [tail, 1 - tail])
    mean = float(np.mean([values.mean() for values in by_seed]))
    return round(mean, DECIMALS), round(float(low), DECIMALS), round(float(high), DECIMALS)


def bootstrap_series(values: pd.Series) -> tuple[float, float, float]:
    """`bootstrap` of a series whose index has a level `seed`; its rows are that seed's prompts, in order."""
    return bootstrap([group.to_numpy(dtype=np.float64) for _, group in values.groupby(level="seed", sort=True)])


def _prompt_means(values: pd.DataFrame) -> pd.DataFrame:
    """One row a (system, metric, method, seed, prompt): samples averaged. Checks the table on the way."""
    require_columns(values, VALUE_COLUMNS, "the table of values")
    if values.empty:
        raise UserError("the table of values is empty: there is nothing to summarise; evaluate at least one method")
    keys = [column for column in VALUE_COLUMNS if column != "value"]
    check_rows(values, "the table of values", keys=keys, numbers=("value",))
    ordered = values.sort_values(["system", "metric", "method", "seed", "prompt_id", "sample"])
    groups = ordered.groupby(["system", "metric", "method", "seed", "prompt_id"], sort=True, observed=True)
    return groups["value"].mean().reset_index()


def win_rates(values: pd.DataFrame, rivals: Sequence[str], score: str = "preference_score") -> pd.DataFrame:
    """How often a method's output scores higher than a rival's on the same prompt, seed and sample; ties count half.

    `values` as in `summarise`, with the metric `score`. Returns rows like it, metrics `win_rate_vs_{rival}`, for every
    method but the rival itself. Raises UserError for a rival that has no scores.
    """
    scores = values[values["metric"] == score]
    keys = ["system", "seed", "prompt_id", "sample"]
    parts = [values.iloc[:0]]
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
        parts.append(both.assign(metric=f"win_rate_vs_{rival}", value=won)[list(values.columns)])
    return pd.concat(parts, ignore_index=True)


def summarise(values: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of every metric of every method, as `results/metrics.csv`.

    `values`: one row a sample and metric, columns `VALUE_COLUMNS`; the order of its rows does not matter.
    Returns the columns `METRIC_COLUMNS`, sorted by system, method and metric. Raises UserError on an empty
    table, a missing column, a value that is not finite, a value given twice, or an unknown metric.
    """
    rows = []
    for (system, method, metric), group in _prompt_means(values).groupby(["system", "method", "metric"], sort=True):
        mean, low, high = bootstrap_series(group.set_index(["seed", "prompt_id"])["value"])
        rows.append(
            (system, method, metric, mean, low, high, group["prompt_id"].nunique(), group["seed"].nunique(),
             describe_metric(str(metric)).higher_is_better)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def compare(values: pd.DataFrame, baselines: Sequence[str], methods: Sequence[str]) -> pd.DataFrame:
    """Every method minus every baseline, paired by prompt and seed, as `results/comparisons.csv`.

    `values` as in `summarise`. A method is not compared with itself, and a metric is skipped where one of the
    two never has it. Returns the columns `COMPARISON_COLUMNS`, sorted by system, metric, method and baseline;
    `difference` is method minus baseline, its interval that of the per-prompt differences. Raises UserError
    as `summarise` does, on a method or baseline with no values, and where the two were not evaluated on the
    same prompts and seeds.
    """
    means = _prompt_means(values)
    known = set(means["method"])
    for name in [*methods, *baselines]:
        if name not in known:
            raise UserError(f"Method '{name}' has no values to compare; there are {', '.join(sorted(known))}.")
    rows = []
    for (system, metric), group in means.groupby(["system", "metric"], sort=True):
        columns = {str(name): part.set_index(["seed", "prompt_id"])["value"] for name, part in group.groupby("method")}
        for method in sorted(set(methods) & columns.keys()):
            for baseline in sorted((set(baselines) & columns.keys()) - {method}):
                difference = _paired(columns[method], columns[baseline], str(metric), method, baseline)
                mean, low, high = bootstrap_series(difference)
                n_prompts = difference.index.get_level_values("prompt_id").nunique()
                n_seeds = difference.index.get_level_values("seed").nunique()
                rows.append((system, metric, method, baseline, mean, low, high, n_prompts, n_seeds))
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def _paired(values: pd.Series, rival: pd.Series, metric: str, method: str, baseline: str) -> pd.Series:
    """Per-prompt difference; both series are indexed by (seed, prompt_id), sorted."""
    alone = values.index.symmetric_difference(rival.index)
    if len(alone):
        seed, prompt = alone[0]
        has, lacks = (method, baseline) if (seed, prompt) in values.index else (baseline, method)
        raise UserError(
            f"Methods '{method}' and '{baseline}' cannot be paired on '{metric}': prompt '{prompt}' of seed "
            f"{seed} was evaluated for '{has}' but not for '{lacks}' ({len(alone)} such prompts); evaluate "
            "both on the same prompts."
        )
    return values - rival
