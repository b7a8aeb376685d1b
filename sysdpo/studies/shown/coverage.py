"""How often the intervals contain the truth in simulated runs: figure, table and sentences of the study `coverage`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.report.study import STUDIES, Study, check_columns
from sysdpo.report.style import SOFT, legend_of, series_style, styled

BAND = (0.93, 0.97)
"""The range in which the coverage of a 95 % interval should lie."""
SHOWN_SEEDS = 5
COLUMNS = (
    *("kind", "rate", "rival_rate", "prompts", "contents", "seed_variance", "seeds"),
    *("coverage", "coverage_se"),
)


def coverage_figure(table: pd.DataFrame) -> Figure:
    """Columns: numbers of seeds. Rows: numbers of contents. The coverage of each kind, with a mark per seed variance.

    `table`: columns `COLUMNS`, coverage as a share. One seed is left out, since its intervals say nothing about others,
    unless there is nothing else. Raises `UserError` on a missing column.
    """
    labelled = _labelled(table)
    several = labelled[labelled["seeds"] > 1]
    labelled = labelled if several.empty else several
    kinds, variances = list(dict.fromkeys(labelled["label"])), sorted(labelled["seed_variance"].unique())
    seeds, contents = sorted(labelled["seeds"].unique()), sorted(labelled["contents"].unique(), reverse=True)
    styles = {
        f"seed variance {variance:g}×": series_style(index, size=4.5) | {"linestyle": ""}
        for index, variance in enumerate(variances)
    }
    with styled():
        size = (1.6 * len(seeds) + 2.6, (0.2 * len(kinds) + 0.6) * len(contents) + 0.7)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(contents), len(seeds), sharex=True, sharey=True, squeeze=False)
        for axes_row, number in zip(grid, contents, strict=True):
            for axes, count in zip(axes_row, seeds, strict=True):
                here = labelled[(labelled["contents"] == number) & (labelled["seeds"] == count)]
                _marks(axes, here, kinds, variances, list(styles.values()))
                axes.set_title(f"{count} seed{'' if count == 1 else 's'}, {number} contents", fontsize=8)
        for axes in grid[:, 0]:
            axes.set_yticks(range(len(kinds)), kinds, fontsize=8)
        grid[0, 0].invert_yaxis()
        for axes in grid[-1]:
            axes.set_xlabel("coverage (%)", fontsize=8.5)
        legend_of(figure, styles)
    return figure


def _marks(
    axes: Axes, rows: pd.DataFrame, kinds: list[str], variances: list[float], styles: list[dict[str, Any]]
) -> None:
    axes.axvspan(100 * BAND[0], 100 * BAND[1], color=SOFT, alpha=0.18, linewidth=0)
    axes.axvline(95, color=SOFT, linewidth=0.9)
    for index, (variance, style) in enumerate(zip(variances, styles, strict=True)):
        points = rows[rows["seed_variance"] == variance]
        height = [kinds.index(label) + 0.18 * (index - (len(variances) - 1) / 2) for label in points["label"]]
        error = 196 * points["coverage_se"]
        axes.errorbar(100 * points["coverage"], height, xerr=error, elinewidth=0.8, **style)
    axes.grid(visible=False, axis="y")


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `label`: the kind, and its true rates in percent."""
    check_columns(table, "coverage", COLUMNS)
    labels = []
    for kind, rate, rival in table[["kind", "rate", "rival_rate"]].itertuples(index=False):
        rates = [f"{100 * share:g}" for share in (rate, rival) if not np.isnan(share)]
        labels.append(f"{kind}, {' and '.join(rates)} %" if rates else str(kind))
    return table.assign(label=labels)


def coverage_table(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage in % at `SHOWN_SEEDS` seeds, or the largest number: one row per kind, one column per number of contents
    and seed variance.
    """
    labelled = _labelled(table)
    seeds = _shown_seeds(labelled)
    rows = labelled[labelled["seeds"] == seeds]
    columns: dict[str, Any] = {f"{seeds} seeds": list(dict.fromkeys(rows["label"]))}
    for (contents, variance), group in rows.groupby(["contents", "seed_variance"], sort=False):
        columns[f"{contents} contents, {variance:g}×"] = [_percent(share) for share in group["coverage"]]
    return pd.DataFrame(columns)


def coverage_ranges(table: pd.DataFrame) -> pd.DataFrame:
    """The range of all kinds' coverage, in %: one row per number of seeds, columns as in `coverage_table`."""
    columns = {}
    for (contents, variance), group in table.groupby(["contents", "seed_variance"], sort=False):
        spans = group.groupby("seeds")["coverage"].agg(["min", "max"]).to_numpy()
        columns[f"{contents} contents, {variance:g}×"] = [f"{_percent(low)}–{_percent(high)}" for low, high in spans]
    return pd.DataFrame(columns, index=pd.Index(sorted(table["seeds"].unique()), name="seeds")).reset_index()


def coverage_sentences(table: pd.DataFrame) -> list[str]:
    """At the seeds of `coverage_table`, per seed variance: the number of cases within `BAND`, and the extremes."""
    labelled = _labelled(table)
    seeds = _shown_seeds(labelled)
    sentences = []
    for variance, rows in labelled[labelled["seeds"] == seeds].groupby("seed_variance"):
        inside = rows["coverage"].between(*BAND)
        least, most = (rows.iloc[int(index)] for index in (rows["coverage"].argmin(), rows["coverage"].argmax()))
        sentences.append(
            f"With {seeds} seeds and a seed variance of {variance:g}×, {inside.sum()} of {len(rows)} cases lie between "
            f"{100 * BAND[0]:g} and {100 * BAND[1]:g} %; the lowest is {_case(least)}, the highest {_case(most)}."
        )
    return sentences


def _shown_seeds(table: pd.DataFrame) -> int:
    return SHOWN_SEEDS if (table["seeds"] == SHOWN_SEEDS).any() else int(table["seeds"].max())


def _case(row: pd.Series) -> str:
    return f"{_percent(row['coverage'])} % ({row['label']}; {row['contents']} contents)"


def _percent(share: float) -> float:
    """In percent, with halves rounded up: shares of 2000 often lie midway between two tenths of a percent."""
    return round(100 * float(share) + 1e-9, 1)


STUDIES.register("coverage")(
    Study(
        title="Do the intervals hold the truth?",
        intro=(
            "A 95 % interval should hold the true value in 95 of 100 runs. In simulated runs the true value is known, "
            "and one can count, over how many seeds there are and how much they differ."
        ),
        caption=(
            "The share of simulated runs whose interval holds the true value, for every kind of interval that is shown "
            "here. The seed variance says how much seeds differ: as a multiple of what the choice of prompts adds to "
            "the variance of one seed's mean. The band is 93 to 97 %; bars are 95 % Monte-Carlo intervals."
        ),
        figure=coverage_figure,
        table=coverage_table,
        sentences=coverage_sentences,
    )
)
