"""Figure: each component's share of the margin, and its log-ratios of the chosen and the rejected output."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.report.credit import credit_table
from sysdpo.report.curves import draw_band, logged_components, mark_rounds, smoothed
from sysdpo.report.descriptions import Shown
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.style import INK, SOFT, component_look, legend_of, series_style, styled, weight_of

CHOSEN: dict[str, Any] = {"color": "#00704f", "linestyle": "-", "linewidth": 1.8}
REJECTED: dict[str, Any] = {"color": "#a33f00", "linestyle": (0, (4, 1.5)), "linewidth": 1.8}


@figure(
    heading="Who earns the preference",
    caption="Above, the margin by which a system prefers the chosen output, stacked by the model that it comes "
    "from. Below, how much likelier each model makes the chosen and the rejected output than it did "
    "before training. A margin only needs the two to part: where both fall (tinted), the preference was "
    "learnt by making the chosen output, too, less likely. Lines are means over seeds, bands their range;"
    " untrained models have none.",
)
def credit(run: Run) -> Figure:
    """One column per method: the margin stacked by component, and below it each component's log-ratios."""
    logs, shown = run.training(), run.shown
    names = logged_components(shown, logs)
    colours = _colours(names, shown)
    ends = credit_table(logs, shown).set_index(["method", "component"])
    methods = shown.order_methods(ends.index.get_level_values("method"))
    with styled():
        drawn = Figure(figsize=(1.95 * len(methods) + 1.0, 1.9 * (1 + len(names)) + 0.9), layout="constrained")
        grid = drawn.subplots(1 + len(names), len(methods), sharex=True, sharey="row", squeeze=False)
        for column, method in zip(grid.T, methods, strict=True):
            log = logs[logs["method"] == method]
            trained = [name for name in names if (method, name) in ends.index]
            _stack(column[0], log, {name: colours[name] for name in trained})
            title = shown.method(method).label.replace("Only the ", "Only ").replace("SysDPO-", "")
            column[0].set_title(title, fontsize=9.5, color=INK, fontweight=weight_of(shown, method))
            for axes, name in zip(column[1:], names, strict=True):
                if name not in trained:
                    axes.text(0.5, 0.5, "not trained", transform=axes.transAxes, color=SOFT, ha="center", fontsize=9)
                    continue
                _log_ratios(axes, log, name)
                if ends.loc[(method, name), "displaced"] == "yes":
                    axes.set_facecolor("#fbf1ea")
                    axes.text(0.04, 0.04, "both fall", transform=axes.transAxes, fontsize=8.5, color="#a33f00")
            for axes in column:
                axes.axhline(0, color=SOFT, linewidth=0.9)
                mark_rounds(axes, log)
            column[-1].set_xlabel("update")
        grid[0, 0].set_ylabel("margin (nats)")
        for axes, name in zip(grid[1:, 0], names, strict=True):
            axes.set_ylabel(f"log-ratio of\n{shown.component(name)} (nats)")
        bands = {
            f"margin of {shown.component(name)}": {"color": colours[name], "linewidth": 7, "alpha": 0.55}
            for name in names
        }
        legend_of(drawn, bands | {"chosen output": CHOSEN, "rejected output": REJECTED})
    return drawn


def _colours(names: list[str], shown: Shown) -> dict[str, str]:
    """Each component has the colour of the method that trains it alone, unless two would be equal."""
    colours = {name: component_look(shown, name).colour for name in names}
    if len(set(colours.values())) == len(names):
        return colours
    return {name: str(series_style(index)["color"]) for index, name in enumerate(names)}


def _stack(axes: Axes, logs: pd.DataFrame, colours: dict[str, str]) -> None:
    """Stack margins, so that the upper edge is the system's margin if none is negative."""
    margins = [[values.mean(axis=1) for values in smoothed(logs, f"margin_{name}")] for name in colours]
    for rounds in zip(*margins, strict=True):
        floor = 0 * rounds[0]
        for colour, margin in zip(colours.values(), rounds, strict=True):
            axes.fill_between(margin.index, floor, floor + margin, color=colour, alpha=0.55, linewidth=0)
            floor = floor + margin
        axes.plot(floor.index, floor, color=INK, linewidth=1.1)


def _log_ratios(axes: Axes, logs: pd.DataFrame, component: str) -> None:
    for side, style in (("chosen", CHOSEN), ("rejected", REJECTED)):
        for values in smoothed(logs, f"{side}_{component}"):
            axes.plot(values.index, values.mean(axis=1), **style)
            draw_band(axes, values, style["color"], 0.13)
