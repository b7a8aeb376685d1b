"""The figure of an experiment: one method row a grid point, drawn over whatever settings the grid varied."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from sysdpo.base.errors import UserError
from sysdpo.report.files import read_table
from sysdpo.report.statistics import COMPARISON_COLUMNS, METRIC_COLUMNS, Metric
from sysdpo.report.style import INK, SOFT, legend_below, legend_of, line_style, series_style, styled
from sysdpo.report.views import method_view, metric_view, order_methods, system_view

_NOT_SETTINGS = {*METRIC_COLUMNS, *COMPARISON_COLUMNS, "experiment", "variant", "seed", "split"}
MOST_FACETS = 4


def varied_settings(table: pd.DataFrame) -> list[str]:
    """The settings that take more than one value in an experiment's table, in the order of its columns."""
    settings = [name for name in table.columns if name not in _NOT_SETTINGS]
    return [name for name in settings if table[name].nunique(dropna=True) > 1]


def experiment_figure(table: pd.DataFrame, differences: pd.DataFrame | None) -> Figure:
    """Lines over the setting with most values, a row of panels for each value of the others; a ranking when
    they are many.

    `table`: columns variant, system, method, one a setting, metric, mean, ci_low, ci_high. `differences`: the same
    settings, metric, method, baseline, difference, ci_low, ci_high. With one method the lines of a panel are the values
    of the second setting. Raises UserError when no setting varies.
    """
    varied = varied_settings(table)
    if not varied:
        raise UserError(
            "The experiment's table varies no setting: its grid needs at least one setting with two values."
        )
    headline = list(system_view(str(table["system"].iloc[0]), table["metric"]).headline)
    across = max(varied, key=lambda name: (is_numeric_dtype(table[name]), table[name].nunique()))
    others = [name for name in varied if name != across]
    if table["method"].nunique() == 1 and len(others) == 1 and table[others[0]].notna().all():
        return _series(table, across, others[0], headline)
    facets = list(product(*(table[name].dropna().unique() for name in others)))
    if len(facets) > MOST_FACETS or table[others].isna().any(axis=None):
        return _ranking(table, varied, headline[0])
    return _lines(table, differences, across, others, facets, headline)


def _lines(
    table: pd.DataFrame, differences: pd.DataFrame | None, across: str, others: list[str],
    facets: list[tuple[Any, ...]], headline: list[str],
) -> Figure:  # fmt: skip
    methods = order_methods(table["method"])
    drifts = [name for name in table["metric"].unique() if name.startswith("kl_")]
    pairs = [] if differences is None else differences[["method", "baseline"]].drop_duplicates().to_numpy().tolist()
    subjects = order_methods(method for method, _ in pairs)
    columns = [*headline, *(f"{name} minus" for name in subjects), *(["frontier"] if drifts else [])]
    with styled():
        figure = Figure(figsize=(3.1 * len(columns) + 0.3, 2.7 * len(facets) + 0.8), layout="constrained")
        grid = np.atleast_2d(figure.subplots(len(facets), len(columns), sharex="col", sharey="col", squeeze=False))
        for row, facet in enumerate(facets):
            here = _at(table, others, facet)
            for axes, column in zip(grid[row], columns, strict=True):
                if differences is not None and column.removesuffix(" minus") in subjects:
                    minuends = differences[differences["method"] == column.removesuffix(" minus")]
                    _difference(axes, _at(minuends, others, facet), across, headline[0])
                elif column == "frontier":
                    _frontier(axes, here, across, drifts, headline[0], methods)
                else:
                    _over(axes, here, across, column, methods)
                if row < len(facets) - 1:
                    axes.set_xlabel("")
                else:
                    axes.tick_params(labelbottom=True)
                if row:
                    axes.set_title("")
            if others:
                said = [f"{setting_name(name)}: {_said(value)}" for name, value in zip(others, facet, strict=True)]
                grid[row, 0].set_ylabel("\n".join(fill(line, 26) for line in said), fontweight="bold")
        legend_below(figure, order_methods([*methods, *(baseline for _, baseline in pairs)]))
    return figure


def _series(table: pd.DataFrame, across: str, other: str, headline: list[str]) -> Figure:
    """A panel a headline metric, a line a value of the setting `other`."""
    values = list(table[other].unique())
    styles = {_said(value): series_style(place, size=6) for place, value in enumerate(values)}
    with styled():
        figure = Figure(figsize=(4.2 * len(headline) + 0.3, 3.5), layout="constrained")
        for axes, metric in zip(figure.subplots(1, len(headline), squeeze=False)[0], headline, strict=True):
            for value in values:
                rows = table[(table["metric"] == metric) & (table[other] == value)]
                _line(axes, rows, across, metric_view(metric), styles[_said(value)])
            _title(axes, metric_view(metric))
        legend_of(figure, styles)
    return figure


def _at(table: pd.DataFrame, names: list[str], values: tuple[Any, ...]) -> pd.DataFrame:
    for name, value in zip(names, values, strict=True):
        table = table[table[name] == value]
    return table


def _places(axes: Axes, values: pd.Series, across: str) -> np.ndarray:
    """Where a setting's values lie on the x axis: numbers spanning a decade on a log axis, words at equal
    steps.
    """
    axes.set_xlabel(setting_name(across))
    if not is_numeric_dtype(values):
        names = sorted(values.unique())
        axes.set_xticks(range(len(names)), [fill(_said(name), 16) for name in names])
        return values.map(names.index).to_numpy(dtype=float)
    if values.min() > 0 and values.max() / values.min() >= 4:
        axes.set_xscale("log")
    ticks = sorted(values.unique())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    return values.to_numpy(dtype=float)


def _over(axes: Axes, table: pd.DataFrame, across: str, metric: str, methods: list[str]) -> None:
    view = metric_view(metric)
    for method in methods:
        rows = table[(table["metric"] == metric) & (table["method"] == method)]
        _line(axes, rows, across, view, line_style(method, size=6))
    _title(axes, view)


def _line(axes: Axes, rows: pd.DataFrame, across: str, view: Metric, style: dict[str, Any]) -> None:
    if len(rows):
        rows = rows.sort_values(across)
        x, (mean, low, high) = _places(axes, rows[across], across), _scaled(rows, "mean", view.scale)
        axes.errorbar(x, mean, yerr=[mean - low, high - mean], elinewidth=1, capsize=2, **style)


def _title(axes: Axes, view: Metric) -> None:
    axes.set_title(view.label + (f" ({view.unit})" if view.unit else ""))


def _difference(axes: Axes, differences: pd.DataFrame, across: str, metric: str) -> None:
    """One method minus its baseline; minus several, each in its own look and a little beside the others."""
    view = metric_view(metric)
    differences = differences[differences["metric"] == metric]
    baselines = order_methods(differences["baseline"])
    axes.axhline(0, color=SOFT, linewidth=1)
    for place, baseline in enumerate(baselines):
        rows = differences[differences["baseline"] == baseline].sort_values(across)
        x, (mean, low, high) = _places(axes, rows[across], across), _scaled(rows, "difference", view.scale)
        beside = place - (len(baselines) - 1) / 2
        x = x * 1.06**beside if axes.get_xscale() == "log" else x + 0.02 * beside * (np.ptp(x) or 1)
        style: dict[str, Any] = line_style(baseline, size=6) if len(baselines) > 1 else {"color": INK, "marker": "o"}
        style |= {"linestyle": ""}
        axes.errorbar(x, mean, yerr=[mean - low, high - mean], capsize=3, elinewidth=1.3, **style)
    subject = _short(str(differences["method"].iloc[0])) if baselines else "Difference"
    rival = "" if not baselines else " − each" if len(baselines) > 1 else f" − {_short(baselines[0]).lower()}"
    axes.set_title(subject + rival + (" (points)" if view.unit == "%" else ""))


def _short(method: str) -> str:
    return method_view(method).label.removeprefix("SysDPO-").removesuffix(" DPO")


def _frontier(
    axes: Axes, table: pd.DataFrame, across: str, drifts: list[str], score: str, methods: list[str]
) -> None:  # fmt: skip
    view = metric_view(score)
    wide = table.pivot_table(index=["method", across], columns="metric", values="mean")
    for method in methods:
        if method in wide.index.get_level_values("method"):
            rows = wide.loc[method]
            style: dict[str, Any] = line_style(method, size=6)
            axes.plot(rows[drifts].to_numpy().sum(axis=1), rows[score].to_numpy() * view.scale, **style)
    axes.set_xlabel("KL from the reference (nats)")
    axes.set_title(f"{view.label} against drift")


def _ranking(table: pd.DataFrame, varied: list[str], metric: str) -> Figure:
    """A panel a method, a row a grid point in the grid's order, the best one filled and named in bold."""
    view = metric_view(metric)
    rows_of = table[table["metric"] == metric]
    methods = order_methods(rows_of["method"])
    most = int(rows_of.groupby("method").size().max())
    with styled():
        across = min(2, len(methods))
        down = -(-len(methods) // across)
        figure = Figure(figsize=(4.6 * across, down * (0.24 * most + 0.8) + 0.2), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, squeeze=False)
        for axes, method in zip(grid.flat, methods, strict=False):
            rows = rows_of[rows_of["method"] == method]
            mean, low, high = _scaled(rows, "mean", view.scale)
            best = int(np.argmax(mean) if view.higher_is_better else np.argmin(mean))
            style: dict[str, Any] = line_style(method, size=7) | {
                "linestyle": "",
                "markeredgecolor": line_style(method)["color"],
            }
            for place in range(len(rows)):
                fill = style["color"] if place == best else "white"
                spread = [[mean[place] - low[place]], [high[place] - mean[place]]]
                axes.errorbar(mean[place], place, xerr=spread, elinewidth=1, **style, markerfacecolor=fill)
            axes.set_yticks(range(len(rows)), [_point(row, varied) for _, row in rows.iterrows()], fontsize=8)
            axes.get_yticklabels()[best].set_fontweight("bold")
            axes.invert_yaxis()
            axes.set_title(method_view(method).label)
        for axes in list(grid.flat)[len(methods) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel(view.label + (f" ({view.unit})" if view.unit else ""))
    return figure


def _scaled(rows: pd.DataFrame, middle: str, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(rows[name].to_numpy(dtype=float) * scale for name in (middle, "ci_low", "ci_high"))  # type: ignore[return-value]


def _point(row: pd.Series, varied: list[str]) -> str:
    return ", ".join(f"{setting_name(name)} {_said(row[name])}" for name in varied if pd.notna(row[name]))


def setting_name(setting: str) -> str:
    """What a setting is called on an axis or in a sentence."""
    return {"beta": "β", "omega": "ω", "count": "candidates K"}.get(
        setting, setting.replace("_", " ").replace(".", " ")
    )


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int | np.number) else str(value).replace("_", " ")


def read_experiment(path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """An experiment's csv and, where it lies beside it, `{stem}_comparisons.csv`: differences at each point."""
    table = read_table(path, ("variant", "system", "method", "metric", "mean", "ci_low", "ci_high"))
    beside = path.with_name(f"{path.stem}_comparisons.csv")
    columns = ("metric", "method", "baseline", "difference", "ci_low", "ci_high")
    return table, read_table(beside, columns) if beside.is_file() else None
