"""`results/claims.csv` and `claims.md`: what a run's intervals say of each claim.

A claim holds where its whole 95 % interval fulfils it, does not hold where no number of the interval does, and is
undecided otherwise. That rule is our choice, and there is no correction for the number of claims.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table, write_table
from sysdpo.base.tables import check_rows
from sysdpo.report import files
from sysdpo.report.claim_file import Claim, Claims
from sysdpo.report.statistics import Metric
from sysdpo.report.story import unit_of
from sysdpo.report.views import method_view, metric_view, show, system_view

CLAIM_COLUMNS = (
    *("id", "system", "question", "metric", "method", "baseline", "condition", "bound"),
    *("value", "ci_low", "ci_high", "verdict"),
)
NUMBERS = ("value", "ci_low", "ci_high")
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
VERDICTS = (HOLDS, FAILS, UNDECIDED)
BEGIN, END = "<!-- claims: {} -->", "<!-- end of claims -->"
"""The lines around one system's claims, in `claims.md` and in every page that repeats them."""
HEADER = """# Claims

What the 95 % intervals of this run say of every claim. A claim *holds* where its whole interval fulfils it, *does not
hold* where none of the interval does, and is *undecided* otherwise.
"""


def judge(condition: str, bound: float, low: float, high: float) -> str:
    """One of `VERDICTS`, for the interval from `low` to `high`, ends included."""
    holds, fails = {
        "above": (low > bound, high <= bound),
        "below": (high < bound, low >= bound),
        "at_least": (low >= bound, high < bound),
        "at_most": (high <= bound, low > bound),
        "within": (low >= -bound and high <= bound, low > bound or high < -bound),
    }[condition]
    return HOLDS if holds else FAILS if fails else UNDECIDED


def evaluate(claims: Claims, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """A row a claim, with the columns `CLAIM_COLUMNS`: those of one system together, and by their question.

    `question` is its text. Raises `UserError` where the tables lack the number that a claim is about.
    """
    systems = list(dict.fromkeys(claim.system for claim in claims.claims))
    questions = [*claims.questions, None]
    ordered = sorted(claims.claims, key=lambda claim: (systems.index(claim.system), questions.index(claim.question)))
    rows = []
    for claim in ordered:
        value, low, high = _measured(claim, metrics, comparisons)
        verdict = judge(claim.condition, claim.bound, low, high)
        question = "" if claim.question is None else claims.questions[claim.question]
        about = (claim.id, claim.system, question, claim.metric, claim.method, claim.baseline or "")
        rows.append((*about, claim.condition, claim.bound, value, low, high, verdict))
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


def _measured(claim: Claim, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> tuple[float, float, float]:
    """The number that a claim is about, and its interval."""
    middle, table = ("mean", metrics) if claim.baseline is None else ("difference", comparisons)
    rows = table[table["system"] == claim.system]
    if claim.baseline is None:
        row = files.value_of(rows, claim.method, claim.metric)
    else:
        row = files.difference_of(rows, claim.method, claim.baseline, claim.metric)
    if row is None:
        minus = "" if claim.baseline is None else f" minus '{claim.baseline}'"
        there = ", ".join(sorted(set(rows["metric"])))
        raise UserError(
            f"claims: '{claim.id}' is about '{claim.metric}' of '{claim.method}'{minus}, which was not measured in "
            f"'{claim.system}'; its metrics are {there}"
        )
    return float(row[middle]), float(row["ci_low"]), float(row["ci_high"])


def sentence(row: pd.Series) -> str:
    """What the interval of a row of `claims.csv` says, in words that follow its verdict."""
    metric, method = metric_view(row["metric"]), method_view(row["method"])
    compared = bool(row["baseline"])
    statement = _condition(row, metric)
    if row["verdict"] == HOLDS and compared and (way := _way(row)):
        size = _number(row if way > 0 else _turned(row), metric, signed=False)
        return f"{metric.label}: {method.label} is {statement}, by {size}."
    said = {
        HOLDS: f"{method.label} is {statement}",
        FAILS: f"{method.label} is not {statement}",
        UNDECIDED: f"whether {method.phrase} is {statement} is undecided",
    }[row["verdict"]]
    introduced = "the difference is" if compared else "it is"
    return f"{metric.label}: {said}; {introduced} {_number(row, metric, signed=compared)}."


def _condition(row: pd.Series, metric: Metric) -> str:
    """`above separate DPO`, `at least 5 points below separate DPO`, `at most 3 %`, `within 2 points of …`."""
    condition, bound = row["condition"], float(row["bound"])
    compared = bool(row["baseline"])
    rival = method_view(row["baseline"]).phrase if compared else "0"
    if condition in ("above", "below"):
        return f"{condition} {rival}"
    shown = f"{(abs(bound) if compared else bound) * metric.scale:.6g}".replace("-", "−")
    size = shown + unit_of(metric, difference=compared)
    if condition == "within":
        return f"within {size} of {rival}"
    if not compared:
        return f"{condition.replace('_', ' ')} {size}"
    least = (condition == "at_least") == (bound >= 0)
    return f"{'at least' if least else 'at most'} {size} {'above' if bound >= 0 else 'below'} {rival}"


def _way(row: pd.Series) -> int:
    """1 for a claim that something lies above its baseline, -1 for one that it lies below, 0 for neither."""
    up = row["condition"] == "above" or (row["condition"] == "at_least" and row["bound"] >= 0)
    down = row["condition"] == "below" or (row["condition"] == "at_most" and row["bound"] < 0)
    return int(up) - int(down)


def _turned(row: pd.Series) -> pd.Series:
    """The baseline minus the method."""
    return pd.Series({**row, "value": -row["value"], "ci_low": -row["ci_high"], "ci_high": -row["ci_low"]})


def _number(row: pd.Series, metric: Metric, *, signed: bool) -> str:
    """`+7.7 points [+4.4, +10.8]`."""
    value, low, high = (show(metric, float(row[name]), signed=signed) for name in NUMBERS)
    return f"{value}{unit_of(metric, difference=bool(row['baseline']))} [{low}, {high}]"


def markdown(table: pd.DataFrame) -> str:
    """The claims as a page, each system's between the lines `BEGIN` and `END`."""
    parts = [HEADER]
    for system, rows in table.groupby("system", sort=False):
        block = "\n".join([BEGIN.format(system), *claim_lines(rows), END])
        parts.append(f"## {system_view(str(system), []).title}\n\n{block}\n")
    if table.empty:
        parts.append("None is about a system of this run.\n")
    return "\n".join(parts)


def claim_lines(rows: pd.DataFrame) -> list[str]:
    """A markdown table: the question stands in the first row of those that answer it."""
    lines = ["| question | what the interval says | verdict | claim |", "|---|---|---|---|"]
    before = None
    for _, row in rows.iterrows():
        question = row["question"] or "Besides"
        shown = "" if question == before else question
        before = question
        verdict = f"**{row['verdict']}**" if row["verdict"] == HOLDS else row["verdict"]
        lines.append(f"| {_plain(shown)} | {_plain(sentence(row))} | {verdict} | `{row['id']}` |")
    return lines


def _plain(text: str) -> str:
    """Text that markdown takes for a part of its cell and for no markup."""
    return " ".join("".join(f"\\{each}" if each in "|\\`*<" else each for each in text).split())


def write_claims(claims: Claims, metrics_csv: Path, comparisons_csv: Path, output: Path) -> None:
    """Writes `output` (`results/claims.csv`) and beside it `claims.md`.

    Raises `UserError` where a table is none, or lacks what a claim is about.
    """
    metrics, comparisons = files.read_all_metrics(metrics_csv), files.read_all_comparisons(comparisons_csv)
    table = evaluate(claims, metrics, comparisons)
    files.write_text(output.with_suffix(".md"), markdown(table))
    write_table(table, output)


def read_claim_table(path: Path) -> pd.DataFrame:
    """`claims.csv`, with no text where there is no baseline or question; raises `UserError` if it is none."""
    table = read_table(path, CLAIM_COLUMNS, allow_empty=True)
    check_rows(table, f"'{path}'", keys=("id",), numbers=("bound", *NUMBERS))
    for name, verdict in zip(table["id"], table["verdict"], strict=True):
        if verdict not in VERDICTS:
            raise UserError(f"'{path}': '{name}' has the verdict '{verdict}', which should be one of {list(VERDICTS)}")
    texts = table[["baseline", "question"]].astype(object)
    return table.assign(**texts.where(texts.notna(), ""))


def beside(ours: Path, theirs: Path | None = None) -> str:
    """A line a claim: its verdict and number in the committed table (`theirs`, where there is one), and in this run.

    A last line counts the verdicts that are the same.
    """
    here = read_claim_table(ours).set_index("id")
    if theirs is None:
        return _aligned([["claim", "this run"], *([str(name), _short(row)] for name, row in here.iterrows())])
    there = read_claim_table(theirs).set_index("id")
    lines, same = [["claim", "committed", "this run", ""]], 0
    for name in dict.fromkeys([*there.index, *here.index]):
        rows = [table.loc[name] for table in (there, here) if name in table.index]
        cells = [_short(table.loc[name]) if name in table.index else "–" for table in (there, here)]
        agree = len(rows) == 2 and rows[0]["verdict"] == rows[1]["verdict"]
        same += agree
        mark = "another verdict" if len(rows) == 2 else "another set of claims"
        mark = "other numbers" if agree else mark
        lines.append([str(name), *cells, "" if cells[0] == cells[1] else f"<- {mark}"])
    return f"{_aligned(lines)}\n{same} of {len(lines) - 1} claims have the verdict of the committed run."


def confirmation_lines(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[str]:
    """How many of our claims have the verdict of another run, and a markdown table of those that have another one.

    Both as `read_claim_table` gives them; raises `UserError` where they are not about the same claims.
    """
    here, there = ours.set_index("id"), theirs.set_index("id")
    if wrong := sorted(set(here.index) ^ set(there.index)):
        raise UserError(f"claims: both runs should have the same ones, but one alone has '{wrong[0]}'")
    other = [name for name in here.index if here.loc[name, "verdict"] != there.loc[name, "verdict"]]
    lines = [f"{len(here) - len(other)} of {len(here)} claims have the same verdict in both runs."]
    if other:
        lines += ["", "| claim | here | there |", "|---|---|---|"]
        lines += [f"| `{name}` | {_short(here.loc[name])} | {_short(there.loc[name])} |" for name in other]
    return lines


def _short(row: pd.Series) -> str:
    return f"{row['verdict']}, {_number(row, metric_view(row['metric']), signed=bool(row['baseline']))}"


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
