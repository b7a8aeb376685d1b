"""Lines over the updates of a training: a method's mean over seeds, and around it the band of their range."""

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
SHARES = ("accuracy", "candidate_mass", "likeliest_candidate")
"""Fields of a training's log that are shown in percent."""


def logged_components(shown: Shown, logs: pd.DataFrame) -> list[str]:
    """The components with a margin in training logs, in display order. Raises UserError without any."""
    names = [name.removeprefix(MARGIN) for name in logs.columns if name.startswith(MARGIN)]
    if not names:
        raise UserError("The training logs have no field margin_{component}: no component was trained; train again.")
    return shown.order_components(names)


def draw_methods(axes: Axes, shown: Shown, logs: pd.DataFrame, column: str, methods: list[str]) -> None:
    """A line a method that logged the column."""
    for place, method in enumerate(methods):
        # Markers are staggered, for methods that lie on each other.
        _curve(axes, logs[logs["method"] == method], column, line_style(shown, method), place / len(methods))
    mark_rounds(axes, logs)


def method_panels(
    shown: Shown, logs: pd.DataFrame, columns: Mapping[str, str], methods: list[str]
) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel a column, by its title, and a line a method; and its panels by their columns."""
    figure, places, last = panels(len(columns), 4.6, 2.75, more=0.6, sharex=True)
    for axes, (column, title) in zip(places, columns.items(), strict=True):
        draw_methods(axes, shown, logs, column, methods)
        axes.set_title(title)
    for axes in last:
        axes.set_xlabel("update")
    legend_below(figure, shown, methods)
    return figure, dict(zip(columns, places, strict=True))


def _curve(axes: Axes, logs: pd.DataFrame, column: str, style: dict[str, Any], phase: float) -> None:
    scale = 100.0 if column in SHARES else 1.0
    for values in smoothed(logs, column):
        smooth = values * scale
        every = max(1, len(smooth) // 3)
        axes.plot(smooth.index, smooth.mean(axis=1), **style, markevery=(int(phase * every), every))
        if smooth.shape[1] > 1:
            draw_band(axes, smooth, style["color"], 0.12)


def draw_band(axes: Axes, values: pd.DataFrame, colour: str, alpha: float) -> None:
    """The range of the columns over the index."""
    low, high = values.min(axis=1), values.max(axis=1)
    axes.fill_between(values.index, low, high, color=colour, alpha=alpha, linewidth=0)


def smoothed(logs: pd.DataFrame, column: str) -> list[pd.DataFrame]:
    """One method's logged values for each round: a row a step, a column a seed; no rounds where nothing was logged."""
    rounds = [part for _, part in logs.groupby("round")] if "round" in logs.columns else [logs]
    tables = [part.pivot_table(index="step", columns="seed", values=column) for part in rounds]
    # A single batch says little: a twelfth of a round is averaged, the same share whatever its length.
    return [
        table.rolling(max(1, len(table) // 12), min_periods=1, center=True).mean()
        for table in tables
        if not table.empty
    ]


def mark_rounds(axes: Axes, logs: pd.DataFrame) -> None:
    """A dotted line where a new round starts."""
    if "round" not in logs.columns:
        return
    for start in sorted(logs.groupby("round")["step"].min())[1:]:
        axes.axvline(start, color=SOFT, linewidth=0.8, linestyle=(0, (1, 2)))


def is_logged(logs: pd.DataFrame, column: str) -> bool:
    """Whether some update has a value of it."""
    return column in logs.columns and bool(logs[column].notna().any())


def level(axes: Axes, height: float) -> None:
    """A dashed line at a height that means something."""
    axes.axhline(height, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
