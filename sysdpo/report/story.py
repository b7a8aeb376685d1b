"""Sentences computed from the tables. What they claim follows from an interval, never from what one hoped
for.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sysdpo.report import files
from sysdpo.report.statistics import Metric
from sysdpo.report.views import (
    SystemView,
    best_trained,
    component_name,
    method_view,
    metric_view,
    order_components,
    order_methods,
    order_metrics,
    show,
)


@dataclass(frozen=True)
class KeyNumber:
    """A large number with what it is and its interval."""

    value: str
    label: str
    interval: str


def unit_of(metric: Metric, *, difference: bool = False) -> str:
    """What follows a number in a sentence, with its space."""
    unit = "points" if difference and metric.unit == "%" else metric.unit
    return f" {unit}" if unit else ""


def verdict(row: pd.Series, higher_is_better: bool) -> str:
    """`better`, `worse` or `tie` for a row of `comparisons.csv`: a tie when the interval holds 0."""
    if row["ci_low"] <= 0 <= row["ci_high"]:
        return "tie"
    return "better" if (row["difference"] > 0) == higher_is_better else "worse"


def interval_of(metric: Metric, row: pd.Series, *, difference: bool = False) -> str:
    """`a to b`, shown in the metric's unit."""
    low, high = (show(metric, float(row[name]), signed=difference) for name in ("ci_low", "ci_high"))
    return f"{low} to {high}{unit_of(metric, difference=difference)}"


def key_numbers(view: SystemView, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> list[KeyNumber]:
    """The first headline metric before and after, and the gain over the best single component."""
    if not view.headline:
        return []
    name = view.headline[0]
    metric = metric_view(name)
    numbers = []
    shown = {"before": "before alignment", "direct": "after SysDPO-Direct", "sampling": "after SysDPO-Sampling"}
    for method, words in shown.items():
        row = files.value_of(metrics, method, name)
        if row is not None:
            value = show(metric, float(row["mean"])) + unit_of(metric)
            numbers.append(KeyNumber(value, f"{metric.label.lower()} {words}", interval_of(metric, row)))
    rivals = [
        (best_single(metrics, name), "the best single model trained alone"),
        ("separate", "separate DPO"),
    ]
    for rival, words in rivals:
        row = None if rival is None else files.difference_of(comparisons, "direct", rival, name)
        if row is not None:
            value = show(metric, float(row["difference"]), signed=True) + unit_of(metric, difference=True)
            numbers.append(KeyNumber(value, f"direct minus {words}", interval_of(metric, row, difference=True)))
    return numbers


def best_single(metrics: pd.DataFrame, metric: str) -> str | None:
    """The `only_<component>` method with the best mean, or None."""
    rows = metrics[(metrics["metric"] == metric) & metrics["method"].str.startswith("only_")]
    return best_trained(rows, metric_view(metric).higher_is_better)


def main_result(view: SystemView, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """One sentence for the change from `before` to `direct`, and one for all the methods direct was compared
    with.
    """
    sentences = []
    for name in view.headline:
        metric = metric_view(name)
        before, after = (files.value_of(metrics, method, name) for method in ("before", "direct"))
        gain = files.difference_of(comparisons, "direct", "before", name)
        if before is None or after is None or gain is None:
            continue
        meaning = f" ({metric.meaning})" if metric.meaning else ""
        said = {"better": "improves", "worse": "gets worse", "tie": "does not change measurably"}
        change = f"{metric.label}{meaning} {said[verdict(gain, metric.higher_is_better)]}"
        values = [show(metric, float(row["mean"])) + unit_of(metric) for row in (before, after)]
        size = show(metric, float(gain["difference"]), signed=True) + unit_of(metric, difference=True)
        sentences.append(
            f"{change}: from {values[0]} before alignment to {values[1]} under SysDPO-Direct "
            f"(difference {size}, 95 % interval {interval_of(metric, gain, difference=True)})."
        )
    sentences += [sentence for name in view.headline[:1] if (sentence := against_all("direct", name, comparisons))]
    return sentences


def against_all(method: str, name: str, comparisons: pd.DataFrame) -> str:
    """In one sentence what a method is better than, worse than, and not told apart from, in one metric."""
    metric = metric_view(name)
    rows = comparisons[(comparisons["method"] == method) & (comparisons["metric"] == name)]
    groups: dict[str, list[str]] = {"better": [], "tie": [], "worse": []}
    for rival in order_methods(rows["baseline"]):
        row = files.difference_of(rows, method, rival, name)
        if row is not None:
            groups[verdict(row, metric.higher_is_better)].append(method_view(rival).phrase)
    heads = {
        "better": "is better than {}", "tie": "cannot be told apart from {}", "worse": "is worse than {}",
    }  # fmt: skip
    parts = [heads[kind].format(listed(names)) for kind, names in groups.items() if names]
    return f"In {metric.label.lower()}, {method_view(method).phrase} {listed(parts, '; it ')}." if parts else ""


def direct_against_separate(view: SystemView, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """What the intervals say of joint against per-component training, score and drift, one sentence each."""
    sentences = []
    for name in view.headline:
        row = files.difference_of(comparisons, "direct", "separate", name)
        if row is None:
            continue
        metric = metric_view(name)
        size = show(metric, float(row["difference"]), signed=True) + unit_of(metric, difference=True)
        interval = f"95 % interval {interval_of(metric, row, difference=True)}"
        subject = f"In {metric.label.lower()} SysDPO-Direct"
        said = {
            "better": f"{subject} is better than separate DPO, by {size} ({interval}).",
            "worse": f"{subject} is worse than separate DPO, by {size} ({interval}).",
            "tie": f"{subject} and separate DPO cannot be told apart on this evidence: the difference is "
            f"{size}, and its {interval} includes zero.",
        }
        sentences.append(said[verdict(row, metric.higher_is_better)])
    drift = _drift(view, metrics, comparisons)
    return [*sentences, drift] if sentences and drift else sentences


def _drift(view: SystemView, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    parts = []
    moved = [name.removeprefix("kl_") for name in set(metrics["metric"]) if name.startswith("kl_")]
    for component in order_components(moved, view.components):
        name = f"kl_{component}"
        row = files.difference_of(comparisons, "direct", "separate", name)
        values = [files.value_of(metrics, method, name) for method in ("direct", "separate")]
        if row is None or values[0] is None or values[1] is None:
            continue
        words = {"better": "less far than", "worse": "farther than", "tie": "about as far as"}[verdict(row, False)]
        metric = metric_view(name)
        direct, separate = (show(metric, float(value["mean"])) for value in values if value is not None)
        said = component_name(component, view.components)
        parts.append(f"moves {said} {words} separate DPO does ({direct} against {separate} nats)")
    return f"To get there, SysDPO-Direct {listed(parts)}." if parts else ""


def checks(view: SystemView, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """What would give a false success away: random labels, broken outputs, a judge that is fooled."""
    sentences = [_null_control(name, comparisons) for name in view.headline[:1]]
    for name in ("well_formed", "image_distance"):
        before, after = (files.value_of(metrics, method, name) for method in ("before", "direct"))
        change = files.difference_of(comparisons, "direct", "before", name)
        if before is not None and after is not None and change is not None:
            metric = metric_view(name)
            better = "higher" if metric.higher_is_better else "lower"
            values = [show(metric, float(row["mean"])) for row in (before, after)]
            interval = interval_of(metric, change, difference=True)
            sentences.append(
                f"{metric.label} ({metric.meaning}; {better} is better): {values[0]} before, {values[1]}"
                f"{unit_of(metric)} under SysDPO-Direct (95 % interval of the difference {interval})."
            )
    return [sentence for sentence in [*sentences, _second_judge(metrics)] if sentence]


def _null_control(name: str, comparisons: pd.DataFrame) -> str:
    row = files.difference_of(comparisons, "shuffled", "before", name)
    if row is None:
        return ""
    metric = metric_view(name)
    words = {
        "better": "improves on the untrained system, which it should not",
        "worse": "makes the system worse",
        "tie": "changes nothing measurable",
    }[verdict(row, metric.higher_is_better)]
    size = show(metric, float(row["difference"]), signed=True) + unit_of(metric, difference=True)
    interval = interval_of(metric, row, difference=True)
    return f"The null control, trained alike on random labels, {words} ({size}, 95 % interval {interval})."


def _second_judge(metrics: pd.DataFrame) -> str:
    """How far a read-out that trained nothing ranks the methods as the regressor does (Spearman's
    correlation).
    """
    wide = metrics.pivot(index="method", columns="metric", values="mean")
    if not {"order_consistency", "readout_order_consistency"} <= set(wide.columns) or len(wide) < 3:
        return ""
    ranks = wide[["order_consistency", "readout_order_consistency"]].dropna().rank()
    correlation = ranks.iloc[:, 0].corr(ranks.iloc[:, 1])
    return (
        "The same regressor labels the training pairs and judges the result, so a second read-out that "
        f"trained nothing judges too: over the {len(ranks)} methods, the two rankings correlate at "
        f"{correlation:.2f}."
    )


def count_of_verdicts(differences: pd.DataFrame) -> str:
    """Over an experiment's grid: where a method is better, worse, or not told apart from a baseline, in two metrics."""
    names = [name for name in order_metrics(differences["metric"]) if not name.startswith("kl_")][:2]
    sentences = []
    for (method, rival), pair in differences.groupby(["method", "baseline"], sort=True):
        for name in names:
            view = metric_view(name)
            found = [verdict(row, view.higher_is_better) for _, row in pair[pair["metric"] == name].iterrows()]
            sentences.append(
                f"In {view.label.lower()}, {method_view(str(method)).phrase} is better than "
                f"{method_view(str(rival)).phrase} at {found.count('better')} of {len(found)} grid points, worse at "
                f"{found.count('worse')}, not told apart at {found.count('tie')}."
            )
    return " ".join(sentences)


def listed(names: list[str], last: str = " and ") -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + last + names[-1]
