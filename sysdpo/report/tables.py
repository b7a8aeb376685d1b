"""The paper-style table of a system: rows methods, columns metrics, as csv, markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sysdpo.report import files
from sysdpo.report.views import (
    SUBJECTS,
    best_trained,
    method_view,
    metric_view,
    order_methods,
    order_metrics,
    show,
    system_view,
)


@dataclass(frozen=True)
class Cell:
    """A number as a reader sees it: `mean` and `[low, high]` already in the metric's unit; `best` is set in
    bold.
    """

    mean: str = ""
    low: str = ""
    high: str = ""
    best: bool = False

    @property
    def interval(self) -> str:
        """`[low, high]`, or nothing for an empty cell."""
        return f"[{self.low}, {self.high}]" if self.mean else ""


@dataclass(frozen=True)
class Row:
    """One method's cells: a metric each, then the paired differences of the paper's methods to it."""

    method: str
    label: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """What every rendering shows: column headings, rows, and a caption that says what the intervals are."""

    headings: Sequence[str]
    rows: Sequence[Row]
    caption: str


def build_table(system: str, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> Table:
    """The table of one system, from its rows of `metrics.csv` and `comparisons.csv`."""
    view = system_view(system, metrics["metric"])
    best = {name: _best_shown(metrics[metrics["metric"] == name], name) for name in view.table if _judged(name)}
    compared = _compared(metrics, view.headline)
    rows = []
    for method in order_methods(metrics["method"]):
        cells = [
            _cell(
                files.value_of(metrics, method, name),
                "mean",
                name,
                best=best.get(name),
            )
            for name in view.table
        ]
        cells += [
            _cell(files.difference_of(comparisons, subject, method, name), "difference", name)
            for subject, name in compared
        ]
        rows.append(Row(method, method_view(method).label, cells))
    headings = [_heading(name) for name in view.table]
    headings += [f"{subject.capitalize()} − this, {_heading(name, difference=True)}" for subject, name in compared]
    return Table(headings, rows, caption(view.title, metrics))


def _compared(metrics: pd.DataFrame, headline: Sequence[str]) -> list[tuple[str, str]]:
    """The differences shown, a method of the paper and a metric each: more than two would not fit on a page."""
    subjects = [name for name in SUBJECTS if name in set(metrics["method"])]
    return [(subject, name) for subject in subjects for name in (headline if len(subjects) == 1 else headline[:1])]


def caption(title: str, metrics: pd.DataFrame) -> str:
    """What is shown, on how many prompts and seeds, and what the brackets mean."""
    seeds = int(metrics["n_seeds"].max())
    subjects = [name for name in SUBJECTS if name in set(metrics["method"])]
    minus = " ".join(
        f"{name.capitalize()} − this: {method_view(name).label} minus the row's method, paired by prompt and seed."
        for name in subjects
    )
    prompts, contents = int(metrics["n_prompts"].max()), int(metrics["n_contents"].max())
    of_contents = f" on {contents} contents" if contents < prompts else ""
    said = "new prompts" if seeds == 1 else "new seeds and new prompts"
    return (
        f"{title}: mean over {prompts} held-out prompts{of_contents} and {seeds} "
        f"seed{'' if seeds == 1 else 's'} (each seed has its own models and preference data). Brackets: 95 % "
        f"t interval for {said} (docs/statistics.md). Bold: best trained method, controls aside. {minus}".rstrip()
    )


def _judged(metric: str) -> bool:
    """Drift and length have a direction but are no prize: a system that learnt nothing, or says nothing, has the
    least.
    """
    return not metric.startswith("kl_") and metric != "length"


def _best_shown(rows: pd.DataFrame, metric: str) -> str | None:
    """The best trained mean as it is printed: two methods that print alike are both bold."""
    view = metric_view(metric)
    best = best_trained(rows, view.higher_is_better)
    return None if best is None else show(view, float(rows.loc[rows["method"] == best, "mean"].iloc[0]))


def _heading(metric: str, *, difference: bool = False) -> str:
    view = metric_view(metric)
    unit = "points" if difference and view.unit == "%" else view.unit
    label = view.label.lower() if difference else view.label
    return f"{label} ({unit})" if unit else label


def _cell(row: pd.Series | None, middle: str, metric: str, *, best: str | None = None) -> Cell:
    if row is None:
        return Cell()
    view, signed = metric_view(metric), middle == "difference"
    mean, low, high = (show(view, float(row[name]), signed=signed) for name in (middle, "ci_low", "ci_high"))
    if signed:
        return Cell(mean, low, high)
    method = method_view(row["method"])
    return Cell(mean, low, high, best=mean == best and method.trained and not method.control)


def markdown(table: Table) -> str:
    """GitHub's markdown, the caption below."""
    lines = ["| Method | " + " | ".join(map(_plain, table.headings)) + " |", "|---|" + "---:|" * len(table.headings)]
    for row in table.rows:
        cells = [f"{f'**{cell.mean}**' if cell.best else cell.mean} {cell.interval}".strip() for cell in row.cells]
        lines.append(f"| {_plain(row.label)} | " + " | ".join(cell or "–" for cell in cells) + " |")
    return "\n".join(lines) + f"\n\n{_plain(table.caption)}\n"


def value_lines(metrics: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """GitHub's markdown: of one system a row a method, and of each named metric its mean and interval."""
    lines = [
        "| method | " + " | ".join(_plain(_heading(name)) for name in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for method in order_methods(metrics["method"]):
        cells = [_cell(files.value_of(metrics, method, name), "mean", name) for name in names]
        label = f"**{method_view(method).label}**" if method in SUBJECTS else _plain(method_view(method).label)
        shown = [f"{cell.mean} {cell.interval}".strip() or "–" for cell in cells]
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    return lines


def _plain(text: str) -> str:
    """Text that markdown takes for a part of its cell and for no markup."""
    escaped = "".join(f"\\{each}" if each in "|\\`*[]<" else each for each in text)
    return " ".join(escaped.split())


def latex(table: Table, system: str) -> str:
    """A `table*` for booktabs and graphicx, every number with its interval below it."""
    body = []
    for row in table.rows:
        cells = [_latex_cell(cell) for cell in row.cells]
        body.append(f"{_escape(row.label)} & " + " & ".join(cells) + r" \\")
    stacked = [_escape(name).replace(" (", r"\\(") for name in table.headings]
    headings = " & ".join(rf"\shortstack{{{name}}}" for name in stacked)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{{_escape(table.caption)}}}",
            rf"\label{{tab:{system.replace('_', '-')}}}",
            r"\resizebox{\linewidth}{!}{%",
            r"\begin{tabular}{l" + "c" * len(table.headings) + "}",
            r"\toprule",
            f"Method & {headings} " + r"\\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _latex_cell(cell: Cell) -> str:
    if not cell.mean:
        return "--"
    mean = _escape(cell.mean)
    bold = rf"\textbf{{{mean}}}" if cell.best else mean
    return rf"\shortstack{{{bold}\\{{\scriptsize {_escape(cell.interval)}}}}}"


LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "−": "$-$",
    }
    | {each: f"\\{each}" for each in "&%$#_{}"}
)


def _escape(text: str) -> str:
    return " ".join(text.split()).translate(LATEX)


def wide_table(metrics: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Every metric in stored units, a row a method: `{metric}`, `_low`, `_high`, and
    `direct_minus_this_{metric}`, `sampling_minus_this_{metric}` where there are those methods.
    """
    rows = []
    for method in order_methods(metrics["method"]):
        row: dict[str, object] = {"method": method, "label": method_view(method).label}
        for metric in order_metrics(metrics["metric"]):
            sources = [(metric, files.value_of(metrics, method, metric), "mean")]
            for subject in SUBJECTS:
                difference = files.difference_of(comparisons, subject, method, metric)
                sources.append((f"{subject}_minus_this_{metric}", difference, "difference"))
            for name, source, middle in sources:
                if source is not None:
                    row |= {
                        name: source[middle],
                        f"{name}_low": source["ci_low"],
                        f"{name}_high": source["ci_high"],
                    }
        rows.append(row)
    return pd.DataFrame(rows)


def write_tables(system: str, metrics_csv: Path, comparisons_csv: Path, output_md: Path) -> None:
    """Writes `output_md` (`results/tables/{system}.md`) and its siblings `.csv` and `.tex`.

    Raises UserError where a table lacks a column, or has no row for the system.
    """
    metrics = files.read_metrics(metrics_csv, system)
    comparisons = files.read_comparisons(comparisons_csv, system)
    table = build_table(system, metrics, comparisons)
    files.write_text(output_md.with_suffix(".csv"), wide_table(metrics, comparisons).to_csv(index=False))
    files.write_text(output_md.with_suffix(".tex"), latex(table, system))
    files.write_text(output_md, markdown(table))
