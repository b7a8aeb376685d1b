"""How wrong the estimators of SysDPO-Sampling are, against the gradient computed over every hidden value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from sysdpo.base.errors import UserError
from sysdpo.report.study import STUDIES, Study
from sysdpo.report.style import SOFT, legend_of, series_style, styled
from sysdpo.studies.graphs import graph_title

SAME = 1e-6  # biases no further apart are one, but for arithmetic
KNOBS = ("diversity", "temperature")
COLUMNS = ("system", "generator", "estimator", "candidates", *KNOBS, "bias", "bias_se", "spread")


def gradients_figure(table: pd.DataFrame) -> Figure:
    """A column a system, over the number of candidates: above the bias of the gradient, below its spread.

    `table`: columns `COLUMNS`; bias and spread as shares of the exact gradient's norm. A line a generator, estimator
    and, where they vary, diversity and temperature; bars are 95 % intervals. What is deterministic has no spread and
    no line below. Raises UserError on a missing column.
    """
    labelled = _labelled(table)
    names = list(dict.fromkeys(labelled["line"]))
    styles = {name: series_style(place, size=5.5) for place, name in enumerate(names)}
    systems = list(dict.fromkeys(labelled["system"]))
    with styled():
        figure = Figure(figsize=(max(3.4 * len(systems), 5) + 0.4, 6.0), layout="constrained")
        grid = figure.subplots(2, len(systems), sharex=True, sharey="row", squeeze=False)
        for column, system in zip(grid.T, systems, strict=True):
            for name in names:
                rows = labelled[(labelled["system"] == system) & (labelled["line"] == name)].sort_values("candidates")
                style: dict[str, Any] = styles[name]
                error = 1.96 * rows["bias_se"].fillna(0)
                spans = [np.minimum(error, rows["bias"]), error]  # a norm is not negative
                column[0].errorbar(rows["candidates"], rows["bias"], yerr=spans, elinewidth=1, capsize=2, **style)
                drawn = rows[rows["spread"] > 0]
                if len(drawn):
                    column[1].plot(drawn["candidates"], drawn["spread"], **style)
            counts = sorted(labelled["candidates"].unique())
            column[1].set_xscale("log", base=2)
            column[1].set_xticks(counts, [f"{count:g}" for count in counts])
            column[1].set_xticks([], minor=True)
            column[1].set_xlabel("candidates K")
            column[0].axhline(0, color=SOFT, linewidth=0.9)
            column[0].set_title(graph_title(str(system)))
        if (labelled["spread"] > 0).any():
            grid[1, 0].set_yscale("log")
            grid[1, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            grid[1, 0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            grid[1, 0].yaxis.set_minor_formatter(NullFormatter())
        grid[0, 0].set_ylabel("bias / gradient's norm")
        grid[1, 0].set_ylabel("spread / gradient's norm")
        legend_of(figure, styles)
    return figure


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """With a column `line`: generator and estimator, and those of `KNOBS` that vary within the two."""
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise UserError(f"The table of gradients has no column '{missing[0]}'; it needs {', '.join(COLUMNS)}.")
    parts = []
    for (generator, estimator), part in table.groupby(["generator", "estimator"], sort=False):
        knobs = [name for name in KNOBS if part[name].nunique() > 1]
        lines = [
            ", ".join([f"{generator}, {estimator}", *(f"{name} {row[name]:g}" for name in knobs)])
            for _, row in part.iterrows()
        ]
        parts.append(part.assign(line=[line.replace("_", " ") for line in lines]))
    return pd.concat(parts)


def gradients_sentences(table: pd.DataFrame) -> list[str]:
    """For each system the least and the most biased at the most candidates, and the error of drawing at random."""
    labelled = _labelled(table)
    sentences = []
    for system, part in labelled.groupby("system", sort=False):
        most = part["candidates"].max()
        last = part[part["candidates"] == most].sort_values("bias")
        least, worst = last.iloc[0], last.iloc[-1]
        alike = " and ".join(last.loc[last["bias"] <= least["bias"] + SAME, "line"])
        title = graph_title(str(system))
        said = (
            f"{title}, {most:g} candidates: the least bias is {_percent(least['bias'])} of the gradient's norm "
            f"({alike})"
        )
        if worst["bias"] > least["bias"] + SAME:
            said += f", the largest {_percent(worst['bias'])} ({worst['line']})"
        drawn = last[last["spread"] > 0]
        if len(drawn):
            steady = drawn.loc[drawn["spread"].idxmin()]
            said += f"; of those that draw, {steady['line']} spreads least, by {_percent(steady['spread'])}"
        sentences.append(f"{said}.")
    return sentences


def gradients_table(table: pd.DataFrame) -> pd.DataFrame:
    """At the most candidates of each system: a row a line of the figure, numbers as shares of the gradient's norm."""
    labelled = _labelled(table)
    last = labelled[labelled["candidates"] == labelled.groupby("system")["candidates"].transform("max")]
    places = {system: place for place, system in enumerate(dict.fromkeys(table["system"]))}
    last = last.sort_values(
        ["system", "bias"], key=lambda column: column.map(places) if column.name == "system" else column
    )
    columns = ["system", "line", *(name for name in ("candidates", "bias", "spread", "mass") if name in last.columns)]
    return last[columns].rename(columns={"line": "candidates by", "candidates": "K"}).round(6).reset_index(drop=True)


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if abs(share) >= 0.1 else 1}f} %" if np.isfinite(share) else "unknown"


STUDIES.register("gradients")(
    Study(
        title="Gradients of the sum",
        intro=(
            "SysDPO-Sampling sums over a few candidates for what is hidden. Where every hidden value can be counted, "
            "the gradient it follows can be held against the exact one."
        ),
        caption=(
            "Above, how far the expected gradient of log p(z|x) is from the exact one, below how much single estimates "
            "scatter around their mean, both as shares of the exact gradient's norm. Beams are deterministic and have "
            "no scatter. Bars are 95 % intervals."
        ),
        figure=gradients_figure,
        table=gradients_table,
        sentences=gradients_sentences,
    )
)
