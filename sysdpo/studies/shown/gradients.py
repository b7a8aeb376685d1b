"""The errors of SysDPO-Sampling's estimators, compared with the gradient over every hidden value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from sysdpo.report.study import STUDIES, Study, check_columns
from sysdpo.report.style import SOFT, legend_of, series_style, styled
from sysdpo.studies.graphs import graph_title

SAME = 1e-6  # biases closer than this differ by rounding errors alone
KNOBS = ("diversity", "temperature")
COLUMNS = ("system", "generator", "estimator", "candidates", *KNOBS, "bias", "bias_se", "spread")


def gradients_figure(table: pd.DataFrame) -> Figure:
    """One column per system, over the number of candidates: above the bias of the gradient, below its spread.

    `table`: columns `COLUMNS`; bias and spread as shares of the exact gradient's norm. One line per generator and
    estimator, and per diversity and temperature if these vary; bars are 95 % intervals. Deterministic generators have
    no spread and no line below. Raises `UserError` on a missing column.
    """
    labelled = _labelled(table)
    names = list(dict.fromkeys(labelled["line"]))
    styles = {name: series_style(index, size=5.5) for index, name in enumerate(names)}
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
    """The table with a column `line`: generator, estimator, and those of `KNOBS` that vary within the two."""
    check_columns(table, "gradients", COLUMNS)
    groups = []
    for (generator, estimator), group in table.groupby(["generator", "estimator"], sort=False):
        knobs = [name for name in KNOBS if group[name].nunique() > 1]
        lines = [
            ", ".join([f"{generator}, {estimator}", *(f"{name} {row[name]:g}" for name in knobs)])
            for _, row in group.iterrows()
        ]
        groups.append(group.assign(line=[line.replace("_", " ") for line in lines]))
    return pd.concat(groups)


def gradients_sentences(table: pd.DataFrame) -> list[str]:
    """Per system, at the most candidates: the least and most biased lines, and the smallest spread of random draws."""
    labelled = _labelled(table)
    sentences = []
    for system, group in labelled.groupby("system", sort=False):
        most = group["candidates"].max()
        last = group[group["candidates"] == most].sort_values("bias")
        least, worst = last.iloc[0], last.iloc[-1]
        alike = " and ".join(last.loc[last["bias"] <= least["bias"] + SAME, "line"])
        title = graph_title(str(system))
        sentence = (
            f"{title}, {most:g} candidates: the least bias is {_percent(least['bias'])} of the gradient's norm "
            f"({alike})"
        )
        if worst["bias"] > least["bias"] + SAME:
            sentence += f", the largest {_percent(worst['bias'])} ({worst['line']})"
        drawn = last[last["spread"] > 0]
        if len(drawn):
            steady = drawn.loc[drawn["spread"].idxmin()]
            sentence += f"; of those that draw, {steady['line']} spreads least, by {_percent(steady['spread'])}"
        sentences.append(f"{sentence}.")
    return sentences


def gradients_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per line of the figure, at each system's most candidates; numbers as shares of the gradient's norm."""
    labelled = _labelled(table)
    last = labelled[labelled["candidates"] == labelled.groupby("system")["candidates"].transform("max")]
    order = {system: index for index, system in enumerate(dict.fromkeys(table["system"]))}
    last = last.sort_values(
        ["system", "bias"], key=lambda column: column.map(order) if column.name == "system" else column
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
