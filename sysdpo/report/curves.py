"""Training curves: a method's mean over seeds, with the range of the seeds as a band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report.descriptions import Shown
from sysdpo.report.style import SOFT, legend_below, line_style, panels

MARGIN = "margin_"
HELD_OUT = "held_out_accuracy"
SHARES = ("accuracy", HELD_OUT, "candidate_mass", "likeliest_candidate")
"""Logged fields that are shown in percent."""


def logged_components(shown: Shown, logs: pd.DataFrame) -> list[str]:
    """The components with a margin in training logs, in display order; raises `UserError` if there are none."""
    names = [name.removeprefix(MARGIN) for name in logs.columns if name.startswith(MARGIN)]
    if not names:
        raise UserError("The training logs have no field margin_{component}: no component was trained; train again.")
    return shown.order_components(names)


def logged_quantities(shown: Shown, logs: pd.DataFrame) -> dict[str, str]:
    """What training logs say of every method, by column, with the title of its panel."""
    titles = {"loss": "Loss", "accuracy": "Pairs ranked right (%)", HELD_OUT: "Held-out pairs ranked right (%)"}
    for name in logged_components(shown, logs):
        titles[f"{MARGIN}{name}"] = f"Margin of {shown.component(name)} (nats)"
    return {name: title for name, title in titles.items() if name in logs.columns}


def draw_methods(axes: Axes, shown: Shown, logs: pd.DataFrame, column: str, methods: list[str]) -> None:
    """Draw one line per method."""
    for index, method in enumerate(methods):
        # Markers are staggered, so that coinciding curves can be seen.
        _curve(axes, logs[logs["method"] == method], column, line_style(shown, method), index / len(methods))
    mark_rounds(axes, logs)


def method_panels(
    shown: Shown, logs: pd.DataFrame, columns: Mapping[str, str], methods: list[str]
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel per column (`columns` has the titles) and one line per method; its axes by column."""
    figure, grid, last = panels(len(columns), 4.6, 2.75, more=0.6, sharex=True)
    for axes, (column, title) in zip(grid, columns.items(), strict=True):
        draw_methods(axes, shown, logs, column, methods)
        axes.set_title(title)
    for axes in last:
        axes.set_xlabel("update")
    legend_below(figure, shown, methods)
    return figure, dict(zip(columns, grid, strict=True))


def _curve(axes: Axes, logs: pd.DataFrame, column: str, style: dict[str, Any], phase: float) -> None:
    scale = 100.0 if column in SHARES else 1.0
    for values in smoothed(logs, column):
        smooth = values * scale
        every = max(1, len(smooth) // 3)
        axes.plot(smooth.index, smooth.mean(axis=1), **style, markevery=(int(phase * every), every))
        if smooth.shape[1] > 1:
            draw_band(axes, smooth, style["color"], 0.12)


def draw_band(axes: Axes, values: pd.DataFrame, colour: str, alpha: float) -> None:
    """Fill between the minimum and the maximum of the columns, over the index."""
    low, high = values.min(axis=1), values.max(axis=1)
    axes.fill_between(values.index, low, high, color=colour, alpha=alpha, linewidth=0)


def smoothed(logs: pd.DataFrame, column: str) -> list[pd.DataFrame]:
    """One method's smoothed values, a table per round with a row per step and a column per seed."""
    rounds = [log for _, log in logs.groupby("round")] if "round" in logs.columns else [logs]
    tables = [log.pivot_table(index="step", columns="seed", values=column) for log in rounds]
    # A single batch is too noisy: the window is a twelfth of a round, whatever its length.
    return [
        table.rolling(max(1, len(table) // 12), min_periods=1, center=True).mean()
        for table in tables
        if not table.empty
    ]


def mark_rounds(axes: Axes, logs: pd.DataFrame) -> None:
    """Draw a dotted line at the start of every later round."""
    if "round" not in logs.columns:
        return
    for start in sorted(logs.groupby("round")["step"].min())[1:]:
        axes.axvline(start, color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)))


def is_logged(logs: pd.DataFrame, column: str) -> bool:
    """Whether any update logged the column."""
    return column in logs.columns and bool(logs[column].notna().any())


def level(axes: Axes, height: float) -> None:
    """Draw a dashed reference line."""
    axes.axhline(height, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
