"""Sentences computed from the tables. What they claim follows from an interval, never from what one hoped for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from sysdpo.method.description import DRIFT, Metric
from sysdpo.method.method_words import RANDOM, RIVAL, SINGLE, Method
from sysdpo.report import files
from sysdpo.report.descriptions import Shown
from sysdpo.report.run import Run

BETTER, TIE, WORSE = "better", "tie", "worse"
AGAINST = {BETTER: "is better than {}", TIE: "cannot be told apart from {}", WORSE: "is worse than {}"}
CHANGE = {BETTER: "improves", WORSE: "gets worse", TIE: "does not change measurably"}
CHANGED = {BETTER: "improves", WORSE: "worsens", TIE: "does not measurably change"}
PAIR = {
    BETTER: "{subject} is better than {rival}, by {size} ({interval}).",
    WORSE: "{subject} is worse than {rival}, by {size} ({interval}).",
    TIE: "{subject} and {rival} cannot be told apart on this evidence: the difference is {size}, and its {interval} "
    "includes zero.",
}
FURTHER = {BETTER: "less far than", WORSE: "farther than", TIE: "about as far as"}
CONTROL = {
    BETTER: "improves on the untrained system, which it should not",
    WORSE: "makes the system worse",
    TIE: "changes nothing measurable",
}


@dataclass(frozen=True)
class Difference:
    """A method minus another in one metric, with its interval, as sentences say it."""

    metric: Metric
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`BETTER`, `WORSE` or `TIE`: a tie when the interval holds 0."""
        if self.low <= 0 <= self.high:
            return TIE
        return BETTER if (self.value > 0) == self.metric.higher_is_better else WORSE

    @property
    def size(self) -> str:
        """`+7.7 points`."""
        return self.metric.say(self.value, difference=True)

    @property
    def span(self) -> str:
        """`+4.4 to +10.8 points`."""
        return f"{self.metric.show(self.low, signed=True)} to {self.metric.say(self.high, difference=True)}"

    @property
    def interval(self) -> str:
        """`95 % interval +4.4 to +10.8 points`."""
        return f"95 % interval {self.span}"


@dataclass(frozen=True)
class KeyNumber:
    """A large number with what it is and its interval."""

    value: str
    label: str
    interval: str


@dataclass(frozen=True)
class Section:
    """What is said of one method under a heading of its own."""

    heading: str
    intro: str
    sentences: Sequence[str]


def difference(run: Run, method: str | None, baseline: str | None, name: str) -> Difference | None:
    """`method` minus `baseline`; where only the reverse was compared, that one turned round; None without either."""
    if method is None or baseline is None:
        return None
    for pair, sign in (((method, baseline), 1), ((baseline, method), -1)):
        row = files.difference_of(run.comparisons, *pair, name)
        if row is not None:
            ends = sorted(sign * float(row[end]) for end in ("ci_low", "ci_high"))
            return Difference(run.shown.metric(name), sign * float(row["difference"]), *ends)
    return None


def _mean(run: Run, method: str | None, name: str) -> str | None:
    """A method's mean with its unit; None where it was not measured."""
    row = files.value_of(run.metrics, method, name)
    return None if row is None else run.shown.metric(name).say(float(row["mean"]))


def key_numbers(run: Run) -> list[KeyNumber]:
    """The first headline metric before and after, and the first subject's gain over its main baselines."""
    shown, numbers = run.shown, []
    for name in shown.headline[:1]:
        metric = shown.metric(name)
        after = [(subject, f"after {shown.method(subject).label}") for subject in shown.subjects]
        for method, words in ((shown.reference, "before alignment"), *after):
            row, value = files.value_of(run.metrics, method, name), _mean(run, method, name)
            if row is not None and value is not None:
                interval = f"{metric.show(row['ci_low'])} to {metric.say(row['ci_high'])}"
                numbers.append(KeyNumber(value, f"{metric.label.lower()} {words}", interval))
        single = shown.best(run.metrics[run.metrics["metric"] == name], name, SINGLE)
        rival = shown.method(shown.rival).phrase if shown.rival else ""
        for subject in shown.subjects[:1]:
            for other, words in ((single, "the best single model trained alone"), (shown.rival, rival)):
                if found := difference(run, subject, other, name):
                    label = f"{shown.method(subject).short.lower()} minus {words}"
                    numbers.append(KeyNumber(found.size, label, found.span))
    return numbers


def main_result(run: Run) -> list[str]:
    """One sentence a headline metric for the change that the first subject makes, and one for all its comparisons."""
    sentences, shown = [], run.shown
    for subject in shown.subjects[:1]:
        for name in shown.headline:
            metric, gain = shown.metric(name), difference(run, subject, shown.reference, name)
            before, after = _mean(run, shown.reference, name), _mean(run, subject, name)
            if gain is not None and before is not None and after is not None:
                meaning = f" ({metric.meaning})" if metric.meaning else ""
                sentences.append(
                    f"{metric.label}{meaning} {CHANGE[gain.verdict]}: from {before} before alignment to {after} under "
                    f"{shown.method(subject).label} (difference {gain.size}, {gain.interval})."
                )
        for name in shown.headline[:1]:
            rivals = shown.order_methods(run.comparisons.loc[run.comparisons["method"] == subject, "baseline"])
            said = against(run, subject, rivals, name)
            sentences += (
                [f"In {shown.metric(name).label.lower()}, {shown.method(subject).phrase} {said}."] if said else []
            )
    return sentences


def against(run: Run, method: str, rivals: Sequence[str], name: str, *, sizes: bool = False) -> str:
    """Better than whom, not told apart from whom, worse than whom, with each difference where `sizes` are asked for."""
    groups: dict[str, list[str]] = {verdict: [] for verdict in AGAINST}
    for rival in rivals:
        if (found := difference(run, method, rival, name)) is not None:
            size = f" ({found.size}, {found.interval})" if sizes else ""
            groups[found.verdict].append(run.shown.method(rival).phrase + size)
    parts = [AGAINST[verdict].format(listed(names)) for verdict, names in groups.items() if names]
    return listed(parts, "; it ") if parts else ""


def sections(run: Run) -> list[Section]:
    """On each measured method that has a heading of its own: the subjects' main baseline, and subjects."""
    said = []
    for name in run.methods:
        method = run.shown.method(name)
        if method.heading:
            found = _against_subject(run, name) if method.kind == RIVAL else _on_subject(run, name, method)
            said += [Section(method.heading, method.intro, found)] if found else []
    return said


def _against_subject(run: Run, rival: str) -> list[str]:
    """What the intervals say of the first subject against its main baseline, score and drift."""
    shown, sentences = run.shown, []
    for subject in shown.subjects[:1]:
        words = {"subject": shown.method(subject).label, "rival": shown.method(rival).phrase}
        for name in shown.headline:
            if found := difference(run, subject, rival, name):
                said = PAIR[found.verdict].format(**words, size=found.size, interval=found.interval)
                sentences.append(f"In {found.metric.label.lower()} {said}")
        parts = []
        for component in shown.components:
            name = f"{DRIFT}{component}"
            found, ours, theirs = (
                difference(run, subject, rival, name),
                *(_mean(run, each, name) for each in (subject, rival)),
            )
            if found and ours and theirs:
                way = f"moves {shown.component(component)} {FURTHER[found.verdict]} {words['rival']} does"
                parts.append(f"{way} ({ours.removesuffix(f' {found.metric.unit}')} against {theirs})")
        if sentences and parts:
            sentences.append(f"To get there, {words['subject']} {listed(parts)}.")
    return sentences


def _on_subject(run: Run, subject: str, method: Method) -> list[str]:
    """What the intervals say of a subject in the first headline metric: its change, then against all others; those with
    a remark of their own by themselves.
    """
    shown, sentences = run.shown, []
    for name in shown.headline[:1]:
        label, change = shown.metric(name).label.lower(), difference(run, subject, shown.reference, name)
        before, after = _mean(run, shown.reference, name), _mean(run, subject, name)
        if change is not None and before is not None and after is not None:
            sentences.append(
                f"{method.opening}{method.label} {CHANGED[change.verdict]} {label}: {before} before, {after} after "
                f"({change.size}, {change.interval})."
            )
        others = [other for other in run.methods if other not in (shown.reference, subject)]
        apart = [other for other in others if shown.method(other).remark]
        if said := against(run, subject, [other for other in others if other not in apart], name, sizes=True):
            sentences.append(f"It {said}.")
        for other in apart:
            if said := against(run, subject, [other], name, sizes=True):
                sentences.append(f"{shown.method(other).remark} {method.label} {said}.")
    return sentences


def checks(run: Run) -> list[str]:
    """What would give a false success away: random labels, broken outputs, a judge that is fooled."""
    shown, sentences = run.shown, []
    for control in shown.of_kind(RANDOM, run.methods)[:1]:
        if shown.headline and (found := difference(run, control, shown.reference, shown.headline[0])):
            size = f"{found.size}, {found.interval}"
            sentences.append(f"The null control, trained alike on random labels, {CONTROL[found.verdict]} ({size}).")
    for name, subject in product(shown.checks, shown.subjects[:1]):
        found = difference(run, subject, shown.reference, name)
        before, after = (_mean(run, method, name) for method in (shown.reference, subject))
        if found and before and after:
            metric = found.metric
            better = f"{metric.meaning}; {'higher' if metric.higher_is_better else 'lower'} is better"
            values = f"{before.removesuffix(f' {metric.unit}')} before, {after} under {shown.method(subject).label}"
            sentences.append(f"{metric.label} ({better}): {values} (95 % interval of the difference {found.span}).")
    return [*sentences, *_second_judge(run)]


def _second_judge(run: Run) -> list[str]:
    """How far the second judge ranks the methods as the first does (Spearman's correlation)."""
    judges, wide = run.shown.second_judge, run.metrics.pivot(index="method", columns="metric", values="mean")
    if judges is None or not {judges.metric, judges.judge} <= set(wide.columns) or len(wide) < 3:
        return []
    ranks = wide[[judges.metric, judges.judge]].dropna().rank()
    correlation = ranks.iloc[:, 0].corr(ranks.iloc[:, 1])
    return [f"{judges.reason}: over the {len(ranks)} methods, the two rankings correlate at {correlation:.2f}."]


def count_of_verdicts(differences: pd.DataFrame, shown: Shown) -> str:
    """Over an experiment's grid: where a method is better, worse, or not told apart from a baseline, in two metrics."""
    names = [name for name in shown.order_metrics(differences["metric"]) if name not in shown.drifts][:2]
    sentences = []
    for (method, rival), pair in differences.groupby(["method", "baseline"], sort=True):
        for name in names:
            metric, rows = shown.metric(name), pair[pair["metric"] == name]
            columns = rows[["difference", "ci_low", "ci_high"]].itertuples(index=False)
            found = [Difference(metric, *row).verdict for row in columns]
            sentences.append(
                f"In {metric.label.lower()}, {shown.method(str(method)).phrase} is better than "
                f"{shown.method(str(rival)).phrase} at {found.count(BETTER)} of {len(found)} grid points, worse at "
                f"{found.count(WORSE)}, not told apart at {found.count(TIE)}."
            )
    return " ".join(sentences)


def listed(names: Sequence[str], last: str = " and ") -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + last + names[-1]
