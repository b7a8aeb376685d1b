"""The table of a system in the style of the paper, methods by metrics, as csv, markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sysdpo.report import files
from sysdpo.report.descriptions import Shown
from sysdpo.report.markdown import plain, table_lines
from sysdpo.report.statistics import difference_of, value_of


class Cell(NamedTuple):
    """A number as shown: `mean` and `[low, high]` formatted in the metric's unit; `best` is bold."""

    mean: str = ""
    low: str = ""
    high: str = ""
    best: bool = False

    @property
    def interval(self) -> str:
        """`[low, high]`, or nothing for an empty cell."""
        return f"[{self.low}, {self.high}]" if self.mean else ""

    @property
    def markdown(self) -> str:
        """Mean and interval on one line."""
        return f"{f'**{self.mean}**' if self.best else self.mean} {self.interval}".strip()

    @property
    def latex(self) -> str:
        """The interval below the mean."""
        if not self.mean:
            return "--"
        mean = rf"\textbf{{{escaped(self.mean)}}}" if self.best else escaped(self.mean)
        return rf"\shortstack{{{mean}\\{{\scriptsize {escaped(self.interval)}}}}}"


class Row(NamedTuple):
    """One method's cells, metrics first, then the subjects' paired differences to it; `ours`: it is a subject."""

    method: str
    label: str
    cells: Sequence[Cell]
    ours: bool = False


class Table(NamedTuple):
    """The content of every format: column headings, rows, and a caption that explains the intervals."""

    headings: Sequence[str]
    rows: Sequence[Row]
    caption: str


def build_table(shown: Shown, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> Table:
    """The table of one system, from its rows of `metrics.csv` and `comparisons.csv`."""
    shown, methods = shown.among(metrics["metric"]), shown.order_methods(metrics["method"])
    best = {name: _best_shown(shown, metrics[metrics["metric"] == name], name) for name in shown.table}
    subjects = [name for name in shown.subjects if name in methods]
    # More than two differences would not fit on a page.
    compared = [(one, name) for one in subjects for name in shown.headline[: 1 if len(subjects) > 1 else None]]
    rows = []
    for method in methods:
        cells = [_cell(shown, value_of(metrics, method, name), "mean", best[name]) for name in shown.table]
        for subject, name in compared:
            cells.append(_cell(shown, difference_of(comparisons, subject, method, name), "difference"))
        rows.append(Row(method, shown.method(method).label, cells, method in shown.subjects))
    headings = [shown.metric(name).heading for name in shown.table]
    for subject, name in compared:
        metric = shown.metric(name)
        unit = f" ({metric.unit_of_difference})" if metric.unit else ""
        headings.append(f"{shown.method(subject).short} − this, {metric.label.lower()}{unit}")
    return Table(headings, rows, _caption(shown, metrics, subjects))


def _caption(shown: Shown, metrics: pd.DataFrame, subjects: Sequence[str]) -> str:
    """The numbers of prompts and seeds, and the meaning of brackets and bold type."""
    prompts, contents, seeds = (int(metrics[name].max()) for name in ("n_prompts", "n_contents", "n_seeds"))
    minus = " ".join(
        f"{method.short} − this: {method.label} minus the row's method, paired by prompt and seed."
        for method in map(shown.method, subjects)
    )
    of_contents = f" on {contents} contents" if contents < prompts else ""
    scope = "new prompts" if seeds == 1 else "new seeds and new prompts"
    return (
        f"{shown.title}: mean over {prompts} held-out prompts{of_contents} and {seeds} "
        f"seed{'' if seeds == 1 else 's'} (each seed is a whole repetition). Brackets: 95 % "
        f"t interval for {scope} (docs/statistics.md). Bold: best trained method, controls aside. {minus}".rstrip()
    )


def _best_shown(shown: Shown, rows: pd.DataFrame, name: str) -> str | None:
    """The best trained mean as printed, so that methods with equal printed means are all bold."""
    best = shown.best(rows, name) if shown.metric(name).is_goal else None
    return None if best is None else shown.metric(name).show(float(rows.loc[rows["method"] == best, "mean"].iloc[0]))


def _cell(shown: Shown, row: pd.Series | None, middle: str, best: str | None = None) -> Cell:
    if row is None:
        return Cell()
    metric, signed = shown.metric(row["metric"]), middle == "difference"
    mean, low, high = (metric.show(float(row[name]), signed=signed) for name in (middle, "ci_low", "ci_high"))
    return Cell(mean, low, high, best=mean == best and shown.method(row["method"]).is_candidate)


def markdown(table: Table) -> str:
    """The table in GitHub's markdown, with the caption below."""
    rows = [[plain(row.label), *(cell.markdown for cell in row.cells)] for row in table.rows]
    lines = table_lines(["Method", *map(plain, table.headings)], rows, numbers=True)
    return "\n".join(lines) + f"\n\n{plain(table.caption)}\n"


def value_lines(shown: Shown, metrics: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """One system's rows in GitHub's markdown: a method each, with mean and interval of the named metrics."""
    rows = []
    for method in shown.order_methods(metrics["method"]):
        label = plain(shown.method(method).label)
        cells = [_cell(shown, value_of(metrics, method, name), "mean").markdown for name in names]
        rows.append([f"**{label}**" if method in shown.subjects else label, *cells])
    return table_lines(["method", *(plain(shown.metric(name).heading) for name in names)], rows, numbers=True)


LATEX: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}"} | {symbol: f"\\{symbol}" for symbol in "&%$#_{}"}


def escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return " ".join(text.split()).translate(str.maketrans(LATEX))


def latex(table: Table, system: str) -> str:
    """A `table*` for booktabs and graphicx, with each interval below its number."""
    stacked = [escaped(name).replace(" (", r"\\(") for name in table.headings]
    cells = pd.DataFrame(
        [[escaped(row.label), *(cell.latex for cell in row.cells)] for row in table.rows],
        columns=["Method", *(rf"\shortstack{{{name}}}" for name in stacked)],
    )
    text = cells.style.hide(axis="index").to_latex(
        column_format="l" + "c" * len(stacked),
        hrules=True,
        environment="table*",
        position="t",
        position_float="centering",
        caption=escaped(table.caption),
        label=f"tab:{system.replace('_', '-')}",
    )
    # A table with this many columns is wider than a page.
    text = text.replace(r"\begin{tabular}", "\\resizebox{\\linewidth}{!}{%\n\\begin{tabular}")
    return "% needs \\usepackage{booktabs,graphicx}\n" + text.replace(r"\end{tabular}", r"\end{tabular}}")


def wide_table(shown: Shown, metrics: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Every metric in stored units, one row per method: `{metric}`, `_low`, `_high`, and for each compared subject
    `{subject}_minus_this_{metric}`.
    """
    rows = []
    for method in shown.order_methods(metrics["method"]):
        row: dict[str, object] = {"method": method, "label": shown.method(method).label}
        for metric in shown.order_metrics(metrics["metric"]):
            sources = [(metric, value_of(metrics, method, metric), "mean")]
            for subject in shown.subjects:
                difference = difference_of(comparisons, subject, method, metric)
                sources.append((f"{subject}_minus_this_{metric}", difference, "difference"))
            for name, source, middle in sources:
                if source is not None:
                    row |= {name: source[middle], f"{name}_low": source["ci_low"], f"{name}_high": source["ci_high"]}
        rows.append(row)
    return pd.DataFrame(rows)


def write_tables(system: str, metrics_csv: Path, comparisons_csv: Path, shown: Shown, output_md: Path) -> None:
    """Write `output_md` (`results/tables/{system}.md`) and its siblings `.csv` and `.tex`.

    Raises `UserError` if a table lacks a column or has no row for the system.
    """
    metrics, comparisons = files.read_metrics(metrics_csv, system), files.read_comparisons(comparisons_csv, system)
    table = build_table(shown, metrics, comparisons)
    files.write_text(output_md.with_suffix(".csv"), wide_table(shown, metrics, comparisons).to_csv(index=False))
    files.write_text(output_md.with_suffix(".tex"), latex(table, system))
    files.write_text(output_md, markdown(table))
