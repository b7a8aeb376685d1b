"""Sentences computed from the tables; every statement follows from an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sysdpo.method.description import DRIFT, Metric
from sysdpo.method.method_words import RANDOM, RIVAL, SINGLE, Method
from sysdpo.report.descriptions import Shown
from sysdpo.report.run import Run
from sysdpo.report.statistics import difference_of, value_of

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
CONTROLLED = {
    BETTER: "improves on the untrained system, which it should not",
    WORSE: "makes the system worse",
    TIE: "changes nothing measurable",
}

CONTROL = "The null control, trained alike on random labels, {change} ({size}, {interval})."
RESULT = "{change}: from {theirs} before alignment to {ours} under {subject} (difference {size}, {interval})."
AFTER = "{change}: {theirs} before, {ours} after ({size}, {interval})."
CHECK = "{what}: {bare} before, {ours} under {subject} (95 % interval of the difference {span})."


@dataclass(frozen=True)
class Difference:
    """The difference of two methods in one metric, with its interval, and their means as shown in sentences."""

    metric: Metric
    value: float
    low: float
    high: float
    ours: str = ""
    theirs: str = ""

    @property
    def verdict(self) -> str:
        """`BETTER`, `WORSE` or `TIE`: a tie if the interval contains 0."""
        if self.low <= 0 <= self.high:
            return TIE
        return BETTER if (self.value > 0) == self.metric.higher_is_better else WORSE

    @property
    def words(self) -> dict[str, str]:
        """For the templates: `size` is `+7.7 points`, `span` `+4.4 to +10.8 points`, `bare` a mean without its unit."""
        metric, bare = self.metric, self.theirs.removesuffix(f" {self.metric.unit}")
        span = f"{metric.show(self.low, signed=True)} to {metric.say(self.high, difference=True)}"
        words = {"span": span, "interval": f"95 % interval {span}", "bare": bare}
        return words | {"size": metric.say(self.value, difference=True), "ours": self.ours, "theirs": self.theirs}


def difference(run: Run, method: str | None, baseline: str | None, name: str) -> Difference | None:
    """`method` minus `baseline`, from the reverse comparison if only that exists; None without either."""
    for pair, sign in (((method, baseline), 1), ((baseline, method), -1)):
        row = difference_of(run.comparisons, *pair, name)
        if row is not None:
            metric = run.shown.metric(name)
            low, high = sorted(sign * float(row[end]) for end in ("ci_low", "ci_high"))
            means = (value_of(run.metrics, side, name) for side in (method, baseline))
            ours, theirs = ("" if mean is None else metric.say(float(mean["mean"])) for mean in means)
            return Difference(metric, sign * float(row["difference"]), low, high, ours, theirs)
    return None


def key_numbers(run: Run) -> list[dict[str, str]]:
    """The first headline metric before and after, and the first subject's gain over its main baselines, each with a
    `value` with its unit, a `label` and an `interval`.
    """
    shown, numbers, name = run.shown, [], run.shown.headline[0]
    metric = shown.metric(name)
    after = [(subject, f"after {shown.method(subject).label}") for subject in shown.subjects]
    for method, words in ((shown.reference, "before alignment"), *after):
        row = value_of(run.metrics, method, name)
        if row is not None:
            interval = f"{metric.show(row['ci_low'])} to {metric.say(row['ci_high'])}"
            label = f"{metric.label.lower()} {words}"
            numbers.append({"value": metric.say(row["mean"]), "label": label, "interval": interval})
    single = shown.best(run.metrics[run.metrics["metric"] == name], name, SINGLE)
    for other, words in ((single, "the best single model trained alone"), (shown.rival, shown.words["rival"])):
        if shown.subject and (gain := difference(run, shown.subject, other, name)):
            label = f"{shown.method(shown.subject).short.lower()} minus {words}"
            numbers.append({"value": gain.words["size"], "label": label, "interval": gain.words["span"]})
    return numbers


def main_result(run: Run) -> list[str]:
    """One sentence per headline metric on the first subject's change, and one on all its comparisons."""
    sentences, shown = [], run.shown
    if shown.subject is None:
        return []
    subject = shown.method(shown.subject)
    for name in shown.headline:
        if gain := difference(run, shown.subject, shown.reference, name):
            meaning = f" ({gain.metric.meaning})" if gain.metric.meaning else ""
            change = f"{gain.metric.label}{meaning} {CHANGE[gain.verdict]}"
            sentences.append(RESULT.format(change=change, subject=subject.label, **gain.words))
    rivals = shown.order_methods(run.comparisons.loc[run.comparisons["method"] == shown.subject, "baseline"])
    if comparison := against(run, shown.subject, rivals):
        sentences.append(f"In {shown.metric(shown.headline[0]).label.lower()}, {subject.phrase} {comparison}.")
    return sentences


def against(run: Run, method: str, rivals: Sequence[str], *, sizes: bool = False) -> str:
    """In the first headline metric: the rivals that `method` is better than, not distinguishable from, and worse than.

    sizes: add each difference.
    """
    groups: dict[str, list[str]] = {verdict: [] for verdict in AGAINST}
    for rival in rivals:
        if gain := difference(run, method, rival, run.shown.headline[0]):
            size = " ({size}, {interval})".format(**gain.words) if sizes else ""
            groups[gain.verdict].append(run.shown.method(rival).phrase + size)
    clauses = [AGAINST[verdict].format(listed(names)) for verdict, names in groups.items() if names]
    return listed(clauses, "; it ") if clauses else ""


def sections(run: Run) -> list[tuple[Method, list[str]]]:
    """Sentences on each measured method with its own heading: the main baseline, and subjects."""
    methods = {name: run.shown.method(name) for name in run.methods}
    by_method = {
        name: _against_subject(run, name) if method.kind == RIVAL else _on_subject(run, name)
        for name, method in methods.items()
        if method.heading
    }
    return [(methods[name], texts) for name, texts in by_method.items() if texts]


def _against_subject(run: Run, rival: str) -> list[str]:
    """The first subject against its main baseline, in score and drift."""
    shown, sentences, moves = run.shown, [], []
    if shown.subject is None:
        return []
    names = {"subject": shown.method(shown.subject).label, "rival": shown.method(rival).phrase}
    for name in shown.headline:
        if change := difference(run, shown.subject, rival, name):
            sentence = PAIR[change.verdict].format(**names, **change.words)
            sentences.append(f"In {change.metric.label.lower()} {sentence}")
    for component in shown.components:
        if change := difference(run, shown.subject, rival, f"{DRIFT}{component}"):
            ours = change.ours.removesuffix(f" {change.metric.unit}")
            way = f"moves {shown.component(component)} {FURTHER[change.verdict]} {names['rival']} does"
            moves.append(f"{way} ({ours} against {change.theirs})")
    moved = [f"To get there, {names['subject']} {listed(moves)}."] if moves else []
    return [*sentences, *moved] if sentences else []


def _on_subject(run: Run, name: str) -> list[str]:
    """A subject in the first headline metric: its change, then its comparisons; methods with a remark have their own
    sentence.
    """
    shown, sentences, method = run.shown, [], run.shown.method(name)
    if change := difference(run, name, shown.reference, shown.headline[0]):
        comparison = f"{method.label} {CHANGED[change.verdict]} {change.metric.label.lower()}"
        sentences.append(method.opening + AFTER.format(change=comparison, **change.words))
    others = [other for other in run.methods if other not in (shown.reference, name)]
    apart = [other for other in others if shown.method(other).remark]
    if comparison := against(run, name, [other for other in others if other not in apart], sizes=True):
        sentences.append(f"It {comparison}.")
    for other in apart:
        if comparison := against(run, name, [other], sizes=True):
            sentences.append(f"{shown.method(other).remark} {method.label} {comparison}.")
    return sentences


def checks(run: Run) -> list[str]:
    """Checks against false success: random labels, broken outputs, a fooled judge."""
    shown, sentences = run.shown, []
    for control in shown.of_kind(RANDOM, run.methods)[:1]:
        if change := difference(run, control, shown.reference, shown.headline[0]):
            sentences.append(CONTROL.format(change=CONTROLLED[change.verdict], **change.words))
    for name in shown.checks:
        if shown.subject and (change := difference(run, shown.subject, shown.reference, name)):
            better = "higher" if change.metric.higher_is_better else "lower"
            what = f"{change.metric.label} ({change.metric.meaning}; {better} is better)"
            label = shown.method(shown.subject).label
            sentences.append(CHECK.format(what=what, subject=label, **change.words))
    judges, wide = shown.second_judge, run.metrics.pivot(index="method", columns="metric", values="mean")
    if judges and {judges.metric, judges.judge} <= set(wide.columns) and len(wide) > 2:
        ranks = wide[[judges.metric, judges.judge]].dropna().rank()
        correlation = ranks.iloc[:, 0].corr(ranks.iloc[:, 1])  # Spearman's
        agreement = f"over the {len(ranks)} methods, the two rankings correlate at {correlation:.2f}."
        sentences.append(f"{judges.reason}: {agreement}")
    return sentences


def count_of_verdicts(differences: pd.DataFrame, shown: Shown) -> str:
    """At how many grid points methods are better than, worse than or tied with a baseline, in two metrics."""
    names = [name for name in shown.order_metrics(differences["metric"]) if name not in shown.drifts][:2]
    sentences = []
    for (method, rival), pair in differences.groupby(["method", "baseline"], sort=True):
        for name in names:
            metric, rows = shown.metric(name), pair[pair["metric"] == name]
            columns = rows[["difference", "ci_low", "ci_high"]].itertuples(index=False)
            verdicts = [Difference(metric, *row).verdict for row in columns]
            better, worse, tied = map(verdicts.count, (BETTER, WORSE, TIE))
            sentences.append(
                f"In {metric.label.lower()}, {shown.method(str(method)).phrase} is better than "
                f"{shown.method(str(rival)).phrase} at {better} of {len(verdicts)} grid points, worse at {worse}, not "
                f"told apart at {tied}."
            )
    return " ".join(sentences)


def listed(names: Sequence[str], last: str = " and ") -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + last + names[-1]
