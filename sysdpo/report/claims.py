"""`results/claims.csv` and `claims.md`: the verdict of a run's intervals on each claim.

A claim holds if its whole 95 % interval fulfils it, does not hold if no number in the interval does, and is undecided
otherwise. This rule is our choice, and there is no correction for the number of claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path

import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table, write_table
from sysdpo.base.tables import check_rows
from sysdpo.report import files
from sysdpo.report.claim_file import FAILS, HOLDS, UNDECIDED, VERDICTS, Claim, Claims
from sysdpo.report.descriptions import Descriptions, Shown
from sysdpo.report.markdown import plain, table_lines
from sysdpo.report.statistics import difference_of, value_of

NUMBERS = ("bound", "value", "ci_low", "ci_high")
SENTENCES = {
    HOLDS: "{metric}: {label} is {condition}; {introduced} {number}.",
    FAILS: "{metric}: {label} is not {condition}; {introduced} {number}.",
    UNDECIDED: "{metric}: whether {phrase} is {condition} is undecided; {introduced} {number}.",
}
WON = "{metric}: {label} is {condition}, by {number}."
"""For a difference on the claim's side of zero."""
BEGIN, END = "<!-- claims: {} -->", "<!-- end of claims -->"
"""The lines around one system's claims, in `claims.md` and in pages that quote them."""
BESIDES = "Besides"
"""The heading of claims that answer no question."""
HEADER = """# Claims

What the 95 % intervals of this run say of every claim. A claim *holds* where its whole interval fulfils it, *does not
hold* where none of the interval does, and is *undecided* otherwise.
"""


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its verdict in a run, a row of `claims.csv`; `baseline` and `question` may be empty."""

    id: str
    system: str
    question: str
    metric: str
    method: str
    baseline: str
    condition: str
    bound: float
    value: float
    ci_low: float
    ci_high: float
    verdict: str

    def sentence(self, shown: Shown) -> str:
        """The verdict and its interval as a sentence."""
        method, direction = shown.method(self.method), self._direction()
        won = self.verdict == HOLDS and bool(self.baseline) and direction != 0
        negated = replace(self, value=-self.value, ci_low=-self.ci_high, ci_high=-self.ci_low)
        return (WON if won else SENTENCES[self.verdict]).format(
            metric=shown.metric(self.metric).label,
            label=method.label,
            phrase=method.phrase,
            condition=self._condition(shown),
            introduced="the difference is" if self.baseline else "it is",
            number=(negated if won and direction < 0 else self).number(shown, signed=bool(self.baseline) and not won),
        )

    def short(self, shown: Shown) -> str:
        """`holds, +7.7 points [+4.4, +10.8]`."""
        return f"{self.verdict}, {self.number(shown, signed=bool(self.baseline))}"

    def number(self, shown: Shown, *, signed: bool) -> str:
        """`+7.7 points [+4.4, +10.8]`."""
        metric = shown.metric(self.metric)
        value, low, high = (metric.show(number, signed=signed) for number in (self.value, self.ci_low, self.ci_high))
        unit = metric.unit_of_difference if self.baseline else metric.unit
        return f"{value}{unit and f' {unit}'} [{low}, {high}]"

    def _condition(self, shown: Shown) -> str:
        """`above separate DPO`, `at least 5 points below separate DPO`, `at most 3 %`, `within 2 points of …`."""
        metric, compared = shown.metric(self.metric), bool(self.baseline)
        rival = shown.method(self.baseline).phrase if compared else "0"
        if self.condition in ("above", "below"):
            return f"{self.condition} {rival}"
        number = f"{(abs(self.bound) if compared else self.bound) * metric.scale:.6g}".replace("-", "−")
        unit = metric.unit_of_difference if compared else metric.unit
        size = f"{number} {unit}".strip()
        if self.condition == "within":
            return f"within {size} of {rival}"
        if not compared:
            return f"{self.condition.replace('_', ' ')} {size}"
        least = (self.condition == "at_least") == (self.bound >= 0)
        return f"{'at least' if least else 'at most'} {size} {'above' if self.bound >= 0 else 'below'} {rival}"

    def _direction(self) -> int:
        """1 for a claim that a method lies above its baseline, -1 for below, 0 for neither."""
        up = self.condition == "above" or (self.condition == "at_least" and self.bound >= 0)
        down = self.condition == "below" or (self.condition == "at_most" and self.bound < 0)
        return int(up) - int(down)


COLUMNS = tuple(field.name for field in fields(ClaimResult))


def evaluate(claims: Claims, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> list[ClaimResult]:
    """The result of every claim, sorted by system and question.

    Raises `UserError` if the tables lack the number that a claim is about.
    """
    systems = list(dict.fromkeys(claim.system for claim in claims.claims))
    questions = [*claims.questions, None]
    ordered = sorted(claims.claims, key=lambda claim: (systems.index(claim.system), questions.index(claim.question)))
    return [_result(claim, claims.questions.get(claim.question or "", ""), metrics, comparisons) for claim in ordered]


def _result(claim: Claim, question: str, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> ClaimResult:
    center, table = ("mean", metrics) if claim.baseline is None else ("difference", comparisons)
    rows = table[table["system"] == claim.system]
    if claim.baseline is None:
        row = value_of(rows, claim.method, claim.metric)
    else:
        row = difference_of(rows, claim.method, claim.baseline, claim.metric)
    if row is None:
        minus = "" if claim.baseline is None else f" minus '{claim.baseline}'"
        known = ", ".join(sorted(set(rows["metric"])))
        raise UserError(
            f"claims: '{claim.id}' is about '{claim.metric}' of '{claim.method}'{minus}, which was not measured in "
            f"'{claim.system}'; its metrics are {known}"
        )
    value, low, high = (float(row[name]) for name in (center, "ci_low", "ci_high"))
    about = (claim.id, claim.system, question, claim.metric, claim.method, claim.baseline or "", claim.condition)
    return ClaimResult(*about, claim.bound, value, low, high, claim.judge(low, high))


def markdown(results: Sequence[ClaimResult], descriptions: Descriptions) -> str:
    """A page of results, each system's between the lines `BEGIN` and `END`."""
    sections = [HEADER]
    for system, claims in groupby(results, lambda claim: claim.system):
        shown = descriptions.system(system)
        block = "\n".join([BEGIN.format(system), *claim_lines(list(claims), shown), END])
        sections.append(f"## {shown.title}\n\n{block}\n")
    return "\n".join(sections if results else [*sections, "None is about a system of this run.\n"])


def claim_lines(results: Sequence[ClaimResult], shown: Shown) -> list[str]:
    """A markdown table; each question appears in the first row that answers it."""
    rows, before = [], None
    for claim in results:
        question = claim.question or BESIDES
        texts = [plain(text, "|\\`*<") for text in ("" if question == before else question, claim.sentence(shown))]
        rows.append([*texts, f"**{claim.verdict}**" if claim.verdict == HOLDS else claim.verdict, f"`{claim.id}`"])
        before = question
    return table_lines(["question", "what the interval says", "verdict", "claim"], rows)


def write_claims(
    claims: Claims, metrics_csv: Path, comparisons_csv: Path, descriptions: Descriptions, output: Path
) -> None:
    """Write `output` (`results/claims.csv`) and `claims.md` beside it.

    Raises `UserError` if a table is invalid or lacks the number that a claim is about.
    """
    results = evaluate(claims, files.read_metrics(metrics_csv), files.read_comparisons(comparisons_csv))
    files.write_text(output.with_suffix(".md"), markdown(results, descriptions))
    write_table(pd.DataFrame([asdict(claim) for claim in results], columns=list(COLUMNS)), output)


def read_claim_table(path: Path) -> list[ClaimResult]:
    """The rows of `claims.csv`; raises `UserError` if it is invalid."""
    table = read_table(path, COLUMNS, allow_empty=True)
    check_rows(table, f"'{path}'", keys=("id",), numbers=NUMBERS)
    for name, verdict in zip(table["id"], table["verdict"], strict=True):
        if verdict not in VERDICTS:
            raise UserError(f"'{path}': '{name}' has the verdict '{verdict}', which should be one of {list(VERDICTS)}")
    return [ClaimResult(*row) for row in table[list(COLUMNS)].astype(object).fillna("").itertuples(index=False)]


def confirmation_lines(
    ours: Sequence[ClaimResult], theirs: Sequence[ClaimResult], descriptions: Descriptions
) -> list[str]:
    """How many of our claims have the same verdict in another run, and a markdown table of those that do not.

    Raises `UserError` if the runs have different claims.
    """
    by_id = {claim.id: claim for claim in theirs}
    if wrong := sorted({claim.id for claim in ours} ^ set(by_id)):
        raise UserError(f"claims: both runs should have the same ones, but one alone has '{wrong[0]}'")
    rows = []
    for here, there in ((claim, by_id[claim.id]) for claim in ours):
        if here.verdict != there.verdict:
            shown = descriptions.system(here.system)
            rows.append([f"`{here.id}`", here.short(shown), there.short(shown)])
    lines = [f"{len(ours) - len(rows)} of {len(ours)} claims have the same verdict in both runs."]
    return [*lines, "", *table_lines(["claim", "here", "there"], rows)] if rows else lines
