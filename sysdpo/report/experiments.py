"""Experiments, the same methods at every point of a grid of settings, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.method.description import Metric
from sysdpo.report.descriptions import Descriptions, Shown
from sysdpo.report.statistics import COMPARISON_COLUMNS, METRIC_COLUMNS
from sysdpo.report.style import INK, SOFT, legend_below, legend_of, line_style, panels, save, series_style, styled

CAPTION = "Every point is one setting, bars are 95 % intervals."
DIFFERENCES = (
    f"{CAPTION} Where a difference lies above zero and its bar leaves zero out, the first of the two methods was "
    "better at that setting."
)
NOT_SETTINGS = {*METRIC_COLUMNS, *COMPARISON_COLUMNS, "experiment", "variant", "seed", "split"}
MOST_FACETS = 4
SYMBOLS = {"beta": "β", "omega": "ω", "count": "candidates K"}


class Experiment(NamedTuple):
    """An experiment's table (columns variant, system, method, one per setting, metric, mean, ci_low, ci_high), and if
    methods were compared, their differences (the settings, metric, method, baseline, difference, ci_low, ci_high).
    """

    table: pd.DataFrame
    differences: pd.DataFrame | None

    @property
    def varied(self) -> list[str]:
        """The settings with more than one value, in the order of the columns."""
        settings = [name for name in self.table.columns if name not in NOT_SETTINGS]
        return [name for name in settings if self.table[name].nunique(dropna=True) > 1]


def read_experiment(path: Path) -> Experiment:
    """Read an experiment's csv and, if it exists, `{stem}_comparisons.csv` beside it."""
    table = read_table(path, ("variant", "system", "method", "metric", "mean", "ci_low", "ci_high"))
    beside = path.with_name(f"{path.stem}_comparisons.csv")
    columns = ("metric", "method", "baseline", "difference", "ci_low", "ci_high")
    return Experiment(table, read_table(beside, columns) if beside.is_file() else None)


def write_experiment_figure(name: str, experiment_csv: Path, descriptions: Descriptions, output: Path) -> None:
    """Write `experiment_{name}.png` and `.svg` into the folder `output`."""
    experiment = read_experiment(experiment_csv)
    shown = descriptions.system(experiment.table["system"].iloc[0])
    save(experiment_figure(experiment, shown), output, f"experiment_{name}")


def experiment_figure(experiment: Experiment, shown: Shown) -> Figure:
    """Lines over the setting with the most values, with a row of panels for each value of the others, or a ranking if
    there are too many. With one method, each line is a value of the second setting.

    Raises `UserError` if no setting varies.
    """
    table, varied = experiment.table, experiment.varied
    if not varied:
        raise UserError("The experiment's table varies no setting: its grid needs a setting with two values.")
    shown = shown.among(table["metric"])
    across = max(varied, key=lambda name: (is_numeric_dtype(table[name]), table[name].nunique()))
    others = [name for name in varied if name != across]
    if table["method"].nunique() == 1 and len(others) == 1 and table[others[0]].notna().all():
        return _series(table, across, others[0], shown)
    facets = list(product(*(table[name].dropna().unique() for name in others)))
    if len(facets) > MOST_FACETS or table[others].isna().any(axis=None):
        return _ranking(table, varied, shown)
    return _lines(experiment, across, others, facets, shown)


def _lines(experiment: Experiment, across: str, others: list[str], facets: Sequence[Any], shown: Shown) -> Figure:
    table, methods = experiment.table, shown.order_methods(experiment.table["method"])
    drifts = [name for name in table["metric"].unique() if name in shown.drifts]
    nothing = pd.DataFrame(columns=["method", "baseline"])
    compared = nothing if experiment.differences is None else experiment.differences
    minuends = shown.order_methods(compared["method"])
    columns = [*shown.headline, *minuends, *(drifts[:1])]
    with styled():
        figure = Figure(figsize=(3.1 * len(columns) + 0.3, 2.7 * len(facets) + 0.8), layout="constrained")
        grid = figure.subplots(len(facets), len(columns), sharex="col", sharey="col", squeeze=False)
        for row, facet in enumerate(facets):
            point = dict(zip(others, facet, strict=True))
            here = _at(table, point)
            for axes, column in zip(grid[row], columns, strict=True):
                if column in minuends:
                    _difference(axes, _at(compared[compared["method"] == column], point), across, shown)
                elif column in shown.headline:
                    styles = {method: line_style(shown, method, size=6) for method in methods}
                    _over(axes, here[here["metric"] == column], across, "method", styles, shown.metric(column))
                else:
                    _frontier(axes, here, across, drifts, shown)
            if point:
                lines = [f"{setting_name(name)}: {_format(value)}" for name, value in point.items()]
                grid[row, 0].set_ylabel("\n".join(fill(line, 26) for line in lines), fontweight="bold")
        for axes in grid[:-1].flat:
            axes.set_xlabel("")
        for axes in grid[1:].flat:
            axes.set_title("")
        for axes in grid[-1]:
            axes.tick_params(labelbottom=True)
        legend_below(figure, shown, shown.order_methods([*methods, *compared["baseline"]]))
    return figure


def _series(table: pd.DataFrame, across: str, other: str, shown: Shown) -> Figure:
    """One panel per headline metric, one line per value of the setting `other`."""
    styles = {value: series_style(index, size=6) for index, value in enumerate(table[other].unique())}
    with styled():
        figure = Figure(figsize=(4.2 * len(shown.headline) + 0.3, 3.5), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(shown.headline), squeeze=False)[0], shown.headline, strict=True):
            _over(axes, table[table["metric"] == name], across, other, styles, shown.metric(name))
        legend_of(figure, {_format(value): style for value, style in styles.items()})
    return figure


def _at(table: pd.DataFrame, point: Mapping[str, Any]) -> pd.DataFrame:
    return table[(table[list(point)] == pd.Series(point, dtype=object)).all(axis=1)]


def _x_positions(axes: Axes, values: pd.Series, across: str) -> np.ndarray:
    """A setting's values as x coordinates: numbers on a log axis if they span a factor of 4, names evenly spaced."""
    axes.set_xlabel(setting_name(across))
    if not is_numeric_dtype(values):
        names = sorted(values.unique())
        axes.set_xticks(range(len(names)), [fill(_format(name), 16) for name in names])
        return values.map(names.index).to_numpy(dtype=float)
    if values.min() > 0 and values.max() / values.min() >= 4:
        axes.set_xscale("log")
    ticks = sorted(values.unique())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    return values.to_numpy(dtype=float)


def _over(axes: Axes, table: pd.DataFrame, across: str, column: str, styles: dict[Any, Any], metric: Metric) -> None:
    """Draw a line for each value of `column` that has a style."""
    for value, style in styles.items():
        rows = table[table[column] == value].sort_values(across)
        if len(rows):
            x, (mean, low, high) = _x_positions(axes, rows[across], across), _scaled(rows, "mean", metric)
            axes.errorbar(x, mean, yerr=[mean - low, high - mean], elinewidth=1, capsize=2, **style)
    axes.set_title(metric.heading)


def _difference(axes: Axes, differences: pd.DataFrame, across: str, shown: Shown) -> None:
    """Draw a method minus its baseline, or minus several, in each one's style and slightly apart."""
    metric = shown.metric(shown.headline[0])
    differences = differences[differences["metric"] == shown.headline[0]]
    baselines = shown.order_methods(differences["baseline"])
    axes.axhline(0, color=SOFT, linewidth=1)
    for index, baseline in enumerate(baselines):
        rows = differences[differences["baseline"] == baseline].sort_values(across)
        x, (mean, low, high) = _x_positions(axes, rows[across], across), _scaled(rows, "difference", metric)
        shift = index - (len(baselines) - 1) / 2
        x = x * 1.06**shift if axes.get_xscale() == "log" else x + 0.02 * shift * (np.ptp(x) or 1)
        style: dict[str, Any] = {"color": INK, "marker": "o"}
        if len(baselines) > 1:
            style = line_style(shown, baseline, size=6)
        axes.errorbar(x, mean, yerr=[mean - low, high - mean], capsize=3, elinewidth=1.3, **style | {"linestyle": ""})
    if baselines:
        rival = "each" if len(baselines) > 1 else shown.method(baselines[0]).short.lower()
        points = " (points)" if metric.is_proportion else ""
        axes.set_title(f"{shown.method(str(differences['method'].iloc[0])).short} − {rival}{points}")


def _frontier(axes: Axes, table: pd.DataFrame, across: str, drifts: list[str], shown: Shown) -> None:
    score, metric = shown.headline[0], shown.metric(shown.headline[0])
    for method in shown.order_methods(table["method"]):
        rows = table[table["method"] == method].pivot_table(index=across, columns="metric", values="mean")
        moved = rows[drifts].to_numpy().sum(axis=1)
        axes.plot(moved, rows[score].to_numpy() * metric.scale, **line_style(shown, method, size=6))
    axes.set_xlabel("KL from the reference (nats)")
    axes.set_title(f"{metric.label} against drift")


def _ranking(table: pd.DataFrame, varied: list[str], shown: Shown) -> Figure:
    """One panel per method, one row per grid point in the grid's order, the best one filled and in bold."""
    metric = shown.metric(shown.headline[0])
    rows_of = table[table["metric"] == shown.headline[0]]
    methods = shown.order_methods(rows_of["method"])
    height = 0.24 * int(rows_of.groupby("method").size().max()) + 0.8
    with styled():
        figure, grid, last = panels(len(methods), 4.6, height, more=0.2, sharex=True)
        for axes, method in zip(grid, methods, strict=True):
            rows = rows_of[rows_of["method"] == method]
            mean, low, high = _scaled(rows, "mean", metric)
            best = int(np.argmax(mean) if metric.higher_is_better else np.argmin(mean))
            style: dict[str, Any] = line_style(shown, method, size=7)
            style |= {"linestyle": "", "markeredgecolor": style["color"]}
            for y in range(len(rows)):
                face = style["color"] if y == best else "white"
                spread = [[mean[y] - low[y]], [high[y] - mean[y]]]
                axes.errorbar(mean[y], y, xerr=spread, elinewidth=1, **style, markerfacecolor=face)
            settings = [row[varied].dropna() for _, row in rows.iterrows()]
            points = [", ".join(f"{setting_name(str(k))} {_format(v)}" for k, v in row.items()) for row in settings]
            axes.set_yticks(range(len(rows)), points, fontsize=8)
            axes.get_yticklabels()[best].set_fontweight("bold")
            axes.invert_yaxis()
            axes.set_title(shown.method(method).label)
        for axes in last:
            axes.set_xlabel(metric.heading)
    return figure


def _scaled(rows: pd.DataFrame, middle: str, metric: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(rows[name].to_numpy(dtype=float) * metric.scale for name in (middle, "ci_low", "ci_high"))  # type: ignore[return-value]


def setting_name(setting: str) -> str:
    """A setting's name on an axis or in a sentence."""
    return SYMBOLS.get(setting, setting.replace("_", " ").replace(".", " "))


def _format(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int | np.number) else str(value).replace("_", " ")
