"""Figures of lines: how training went, and how the asked attribute moves from image to image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.statistics import PROMPT, estimate
from sysdpo.report.style import INK, SOFT, legend_below, line_style, styled
from sysdpo.report.views import component_name, method_view, metric_view, order_components, order_methods, show

TITLES = {"loss": "Loss", "accuracy": "Pairs ranked right (%)"}


def training(logs: pd.DataFrame, components: dict[str, str]) -> Figure:
    """Loss, accuracy and each component's margin over the steps, one line a method: mean over seeds, band
    their range.

    `logs`: columns seed, method, step, loss, and where logged accuracy, round, `margin_{component}`.
    `components`: a component's name for people, where it has one.
    """
    logged = [name.removeprefix("margin_") for name in logs.columns if name.startswith("margin_")]
    margins = [f"margin_{name}" for name in order_components(logged, components)]
    panels_of = [name for name in ("loss", "accuracy", *margins) if name in logs.columns]
    methods = order_methods(logs["method"])
    with styled():
        rows = (len(panels_of) + 1) // 2
        figure = Figure(figsize=(9.2, 2.75 * rows + 0.6), layout="constrained")
        grid = np.atleast_2d(figure.subplots(rows, 2, sharex=True))
        for axes, column in zip(grid.flat, panels_of, strict=False):
            for place, method in enumerate(methods):
                curve(axes, logs[logs["method"] == method], column, method, place / len(methods))
            component = component_name(column.removeprefix("margin_"), components)
            axes.set_title(TITLES.get(column, f"Margin of {component} (nats)"))
            if column in margins:
                axes.axhline(0, color=SOFT, linewidth=0.9)
            if column == "loss":
                axes.axhline(np.log(2), color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
                right: dict[str, Any] = {
                    "transform": axes.get_yaxis_transform(),
                    "ha": "right",
                    "va": "bottom",
                }
                axes.text(1, np.log(2), "ln 2", color=SOFT, fontsize=8, **right)
            mark_rounds(axes, logs)
        for axes in list(grid.flat)[len(panels_of) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("update")
        legend_below(figure, methods)
    return figure


def curve(axes: Axes, logs: pd.DataFrame, column: str, method: str, phase: float) -> None:
    """One method's line; `phase` in [0, 1) staggers the markers of methods that lie on each other."""
    scale = 100.0 if column in ("accuracy", "candidate_mass", "likeliest_candidate") else 1.0
    for values in smoothed(logs, column):
        smooth = values * scale
        every = max(1, len(smooth) // 3)
        style: dict[str, Any] = line_style(method) | {"markevery": (int(phase * every), every)}
        axes.plot(smooth.index, smooth.mean(axis=1), **style)
        if smooth.shape[1] > 1:
            low, high = smooth.min(axis=1), smooth.max(axis=1)
            axes.fill_between(smooth.index, low, high, color=style["color"], alpha=0.12, linewidth=0)


def smoothed(logs: pd.DataFrame, column: str) -> list[pd.DataFrame]:
    """One method's logged values for each round: a row a step, a column a seed; no rounds where nothing was logged."""
    rounds = [part for _, part in logs.groupby("round")] if "round" in logs.columns else [logs]
    tables = [part.pivot_table(index="step", columns="seed", values=column) for part in rounds]
    # A batch is a noisy witness: a twelfth of a round is averaged, the same share whatever its length.
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


CANDIDATES = {
    "effective_sample_size": "Effective sample size of the weights",
    "likeliest_candidate": "Weight of the likeliest candidate (%)",
    "candidates": "Distinct candidates",
    "candidate_mass": "Probability the candidates hold (%)",
}


def sampling(logs: pd.DataFrame) -> Figure:
    """What the candidates of SysDPO-Sampling are worth over the steps: a panel each of `CANDIDATES` that was logged,
    one line a method: mean over seeds, band their range.

    `logs`: columns seed, method, step, `effective_sample_size` and others of `CANDIDATES`, empty where a method has no
    candidates. Methods with one candidate only have nothing to show. Raises UserError where no method has more.
    """
    there = logs[logs["candidates"] > 1] if "candidates" in logs.columns else logs.iloc[:0]
    methods = order_methods(there["method"])
    if not methods:
        raise UserError("figures: 'sampling' should stand only at a system with a method that has several candidates.")
    shown = [name for name in CANDIDATES if name in logs.columns and there[name].notna().any()]
    with styled():
        figure = Figure(figsize=(9.2, 2.75 * ((len(shown) + 1) // 2) + 0.6), layout="constrained")
        grid = figure.subplots((len(shown) + 1) // 2, 2, sharex=True, squeeze=False)
        for axes, column in zip(grid.flat, shown, strict=False):
            for place, method in enumerate(methods):
                curve(axes, logs[logs["method"] == method], column, method, place / len(methods))
            axes.set_title(CANDIDATES[column])
            if column in ("effective_sample_size", "candidates"):
                axes.axhline(1, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
                axes.set_ylim(0.8, max(axes.get_ylim()[1], 2))
            else:
                axes.set_ylim(0, 103)
            mark_rounds(axes, there)
        for axes in list(grid.flat)[len(shown) :]:
            axes.set_visible(False)
        for axes in grid[-1]:
            axes.set_xlabel("update")
        legend_below(figure, methods)
    return figure


def attributes(samples: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """A panel a method: the asked attribute of the first, second and third image, with `before` behind it.

    `samples`: columns seed, method, prompt_id, content, sample, attribute_1.., values in [0, 1]. Bars are 95 %
    intervals.
    """
    columns = sorted(name for name in samples.columns if name.startswith("attribute_"))
    methods = order_methods(samples["method"])
    lines = {name: _attribute_line(samples[samples["method"] == name], columns) for name in methods}
    across = min(4, len(methods))
    down = -(-len(methods) // across)
    with styled():
        figure = Figure(figsize=(2.35 * across, 2.3 * down + 0.3), layout="constrained")
        grid = np.atleast_2d(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False))
        for axes, method in zip(grid.flat, methods, strict=False):
            if "before" in lines and method != "before":
                axes.plot(
                    range(1, len(columns) + 1),
                    lines["before"][:, 0],
                    color=SOFT,
                    linestyle=(0, (3, 3)),
                    lw=1.1,
                )
            means, low, high = lines[method].T
            style: dict[str, Any] = line_style(method, size=5.5)
            axes.errorbar(
                range(1, len(columns) + 1),
                means,
                yerr=[means - low, high - means],
                elinewidth=1.2,
                capsize=2.5,
                **style,
            )
            axes.set_title(method_view(method).label, fontsize=9.5)
            row = files.value_of(metrics, method, "order_consistency")
            if row is not None:
                share = show(metric_view("order_consistency"), float(row["mean"]))
                axes.text(
                    0.04,
                    0.95,
                    f"{share} % in order",
                    transform=axes.transAxes,
                    fontsize=8.5,
                    color=INK,
                    va="top",
                )
            axes.set_ylim(0, 1)
            axes.set_xlim(0.7, len(columns) + 0.3)
            axes.set_xticks(range(1, len(columns) + 1))
        for axes in list(grid.flat)[len(methods) :]:
            axes.set_visible(False)
        figure.supxlabel("image", fontsize=9.5)
        figure.supylabel("what was asked for, by the regressor", fontsize=9.5)
    return figure


def _attribute_line(samples: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Mean, low, high of each image's attribute: `[images, 3]`."""
    prompts = samples.sort_values([*PROMPT, "sample"]).groupby(PROMPT, sort=True)[columns].mean()
    found = [estimate(prompts[column], what=f"'{column}'") for column in columns]
    return np.array([(each.mean, each.low, each.high) for each in found])
