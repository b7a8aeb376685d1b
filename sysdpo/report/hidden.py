"""Sentences on SysDPO-Sampling: what is left of the gain when nobody sees what passes between the models."""

from __future__ import annotations

import pandas as pd

from sysdpo.report import files
from sysdpo.report.statistics import Metric
from sysdpo.report.story import interval_of, listed, unit_of, verdict
from sysdpo.report.views import SystemView, method_view, metric_view, order_methods, show

METHOD, SINGLE = "sampling", "single_sample"


def sampling_against_all(view: SystemView, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """What the intervals say of `sampling`, in the first headline metric; nothing where it was not measured."""
    sentences = []
    for name in view.headline[:1]:
        sentences.append(change_under_sampling(name, metrics, comparisons))
        rivals = [rival for rival in order_methods(metrics["method"]) if rival not in ("before", METHOD, SINGLE)]
        sentences.append(_against(name, rivals, comparisons))
        why = (
            "Single sample puts one ancestral draw for the sum: its factor p(y|x) cancels between chosen and rejected, "
            "and no preference reaches the model that drew it. "
        )
        if one := _against(name, [SINGLE], comparisons):
            sentences.append(why + one.replace("It ", "SysDPO-Sampling ", 1))
    return [sentence for sentence in sentences if sentence]


def change_under_sampling(name: str, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """The change from `before` to `sampling`, with its interval."""
    metric = metric_view(name)
    before, summed = (files.value_of(metrics, method, name) for method in ("before", METHOD))
    change = difference(comparisons, METHOD, "before", name)
    if before is None or summed is None or change is None:
        return ""
    verb = {"better": "improves", "worse": "worsens", "tie": "does not measurably change"}
    return (
        f"Without seeing anything between input and output, SysDPO-Sampling "
        f"{verb[verdict(change, metric.higher_is_better)]} {metric.label.lower()}: "
        f"{show(metric, float(before['mean']))}{unit_of(metric)} before, {show(metric, float(summed['mean']))}"
        f"{unit_of(metric)} after ({_size(metric, change)})."
    )


def _against(name: str, rivals: list[str], comparisons: pd.DataFrame) -> str:
    """Better than whom, not told apart from whom, worse than whom, each with its difference."""
    metric = metric_view(name)
    heads = {"better": "is better than {}", "tie": "cannot be told apart from {}", "worse": "is worse than {}"}
    groups: dict[str, list[str]] = {kind: [] for kind in heads}
    for rival in rivals:
        row = difference(comparisons, METHOD, rival, name)
        if row is not None:
            said = f"{method_view(rival).phrase} ({_size(metric, row)})"
            groups[verdict(row, metric.higher_is_better)].append(said)
    parts = [heads[kind].format(listed(names)) for kind, names in groups.items() if names]
    return f"It {listed(parts, '; it ')}." if parts else ""


def difference(comparisons: pd.DataFrame, method: str, baseline: str, metric: str) -> pd.Series | None:
    """The row of `method` minus `baseline`; where only the reverse was compared, that one turned round."""
    row = files.difference_of(comparisons, method, baseline, metric)
    if row is not None:
        return row
    reverse = files.difference_of(comparisons, baseline, method, metric)
    if reverse is None:
        return None
    turned = {"difference": -reverse["difference"], "ci_low": -reverse["ci_high"], "ci_high": -reverse["ci_low"]}
    return pd.Series({**reverse, **turned, "method": method, "baseline": baseline})


def _size(metric: Metric, row: pd.Series) -> str:
    size = show(metric, float(row["difference"]), signed=True) + unit_of(metric, difference=True)
    return f"{size}, 95 % interval {interval_of(metric, row, difference=True)}"
