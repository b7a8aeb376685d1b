"""Which component earns the preference: its share of the margin, and whether the chosen became likelier at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.curves import mark_rounds, smoothed
from sysdpo.report.style import INK, SOFT, legend_of, look, series_style, styled
from sysdpo.report.views import SINGLE_MODELS, SUBJECTS, component_name, method_view, order_components, order_methods

PARTS = ("margin", "chosen", "rejected")
END = 0.1
"""The last part of the updates that an end value is averaged over: a single batch is a noisy witness."""


def components_of(logs: pd.DataFrame) -> list[str]:
    """The components with a margin in training logs. Raises UserError without any."""
    names = sorted(name.removeprefix("margin_") for name in logs.columns if name.startswith("margin_"))
    if not names:
        raise UserError("The training logs have no field margin_{component}: there is no credit to show; train again.")
    return names


def credit_table(logs: pd.DataFrame) -> pd.DataFrame:
    """How each method's margin splits over the components it trains, and whether displacement happened.

    `logs`: columns seed, method, step, and `margin_`, `chosen_`, `rejected_{component}` in nats, empty where a method
    does not train the component. Every number is a mean over the last tenth of the updates, then over seeds; `_low` and
    `_high` are the range over seeds. `share` is the component's margin over that of all, empty where that is not above
    0. `displaced` is yes where both log-ratios are below 0: the preference was learnt by making the chosen, too, less
    likely than under the reference (likelihood displacement, Razin et al., arXiv 2410.08847); `displaced_seeds` counts
    the seeds of which that is true.
    """
    rows = []
    for method in order_methods(logs["method"]):
        part = logs[logs["method"] == method]
        ends = {name: _ends(part, name) for name in components_of(logs)}
        ends = {name: end for name, end in ends.items() if len(end)}
        total = sum(float(end["margin"].mean()) for end in ends.values())
        for name, end in ends.items():
            row: dict[str, object] = {"method": method, "component": name}
            for value in PARTS:
                key = value if value == "margin" else f"{value}_log_ratio"
                row |= {key: end[value].mean(), f"{key}_low": end[value].min(), f"{key}_high": end[value].max()}
            displaced = (end["chosen"] < 0) & (end["rejected"] < 0)
            means = end.mean()
            row["share"] = means["margin"] / total if total > 0 else np.nan
            row["displaced"] = "yes" if means["chosen"] < 0 and means["rejected"] < 0 else "no"
            rows.append(row | {"displaced_seeds": int(displaced.sum()), "n_seeds": len(end)})
    columns = ["method", "component", "margin", "margin_low", "margin_high", "share"]
    table = pd.DataFrame(rows)
    return table[[*columns, *(name for name in table.columns if name not in columns)]]


def _ends(logs: pd.DataFrame, component: str) -> pd.DataFrame:
    """`margin`, `chosen` and `rejected` of a component at the end of training, a row a seed."""
    columns = {f"{part}_{component}": part for part in PARTS}
    if missing := [name for name in columns if name not in logs.columns]:
        raise UserError(f"The training logs have no field '{missing[0]}'; train again.")
    logged = logs[["seed", "step", *columns]].dropna().rename(columns=columns).sort_values("step")
    last = [part.tail(max(1, round(END * len(part)))) for _, part in logged.groupby("seed")]
    kept = pd.concat(last) if last else logged
    return kept.groupby("seed")[list(PARTS)].mean()


def credit_figure(logs: pd.DataFrame, components: dict[str, str]) -> Figure:
    """A column a method: the margin stacked by component, and below it each component's log-ratio of the chosen
    and of the rejected output.

    `logs` as in `credit_table`; `components`: a component's name for people, where it has one. Lines are means over
    seeds, bands their range.
    """
    names = order_components(components_of(logs), components)
    said = {name: component_name(name, components) for name in names}
    colours = _colours(names)
    shown = credit_table(logs).set_index(["method", "component"])
    displaced = set(shown.index[shown["displaced"] == "yes"])
    methods = order_methods(shown.index.get_level_values("method"))
    with styled():
        figure = Figure(figsize=(1.95 * len(methods) + 1.0, 1.9 * (1 + len(names)) + 0.9), layout="constrained")
        grid = figure.subplots(1 + len(names), len(methods), sharex=True, sharey="row", squeeze=False)
        for column, method in zip(grid.T, methods, strict=True):
            part = logs[logs["method"] == method]
            trained = [name for name in names if (method, name) in shown.index]
            _stack(column[0], part, {name: colours[name] for name in names if name in trained})
            title = method_view(method).label.replace("Only the ", "Only ").replace("SysDPO-", "")
            column[0].set_title(title, fontsize=9.5, color=INK, fontweight="bold" if method in SUBJECTS else "normal")
            for axes, name in zip(column[1:], names, strict=True):
                if name in trained:
                    _log_ratios(axes, part, name)
                    if (method, name) in displaced:
                        _tint(axes)
                else:
                    axes.text(0.5, 0.5, "not trained", transform=axes.transAxes, color=SOFT, ha="center", fontsize=9)
            for axes in column:
                axes.axhline(0, color=SOFT, linewidth=0.9)
                mark_rounds(axes, part)
            column[-1].set_xlabel("update")
        grid[0, 0].set_ylabel("margin (nats)")
        for axes, name in zip(grid[1:, 0], names, strict=True):
            axes.set_ylabel(f"log-ratio of\n{said[name]} (nats)")
        bands = {f"margin of {said[name]}": {"color": colours[name], "linewidth": 7, "alpha": 0.55} for name in names}
        legend_of(figure, bands | {"chosen output": _CHOSEN, "rejected output": _REJECTED})
    return figure


_CHOSEN: dict[str, Any] = {"color": "#00704f", "linestyle": "-", "linewidth": 1.8}
_REJECTED: dict[str, Any] = {"color": "#a33f00", "linestyle": (0, (4, 1.5)), "linewidth": 1.8}


def _colours(names: list[str]) -> dict[str, str]:
    """A component is coloured as the method that trains it alone, unless two would look alike."""
    own = {name: look(f"{SINGLE_MODELS}{name}").colour for name in names}
    if len(set(own.values())) == len(names):
        return own
    return {name: str(series_style(place)["color"]) for place, name in enumerate(names)}


def _stack(axes: Axes, logs: pd.DataFrame, colours: dict[str, str]) -> None:
    """Margins stand on each other, so that the upper edge is the system's margin where none is negative."""
    parts = [[values.mean(axis=1) for values in smoothed(logs, f"margin_{name}")] for name in colours]
    for rounds in zip(*parts, strict=True):
        floor = 0 * rounds[0]
        for colour, margin in zip(colours.values(), rounds, strict=True):
            axes.fill_between(margin.index, floor, floor + margin, color=colour, alpha=0.55, linewidth=0)
            floor = floor + margin
        axes.plot(floor.index, floor, color=INK, linewidth=1.1)


def _log_ratios(axes: Axes, logs: pd.DataFrame, component: str) -> None:
    for part, style in (("chosen", _CHOSEN), ("rejected", _REJECTED)):
        for values in smoothed(logs, f"{part}_{component}"):
            axes.plot(values.index, values.mean(axis=1), **style)
            low, high = values.min(axis=1), values.max(axis=1)
            axes.fill_between(values.index, low, high, color=style["color"], alpha=0.13, linewidth=0)


def _tint(axes: Axes) -> None:
    axes.set_facecolor("#fbf1ea")
    axes.text(0.04, 0.04, "both fall", transform=axes.transAxes, fontsize=8.5, color="#a33f00")


def write_credit_table(system: str, runs: Path, output_csv: Path) -> None:
    """Writes `credit_table` of all methods below `runs` (`results/runs/{system}`) that left a training log.

    Raises UserError where none did, or a log lacks a field.
    """
    logs = files.read_training(runs, methods_with_logs(system, runs))
    files.write_text(output_csv, credit_table(logs).to_csv(index=False, float_format="%.6g"))


def methods_with_logs(system: str, runs: Path) -> list[str]:
    """The methods that left a training log at any seed. Raises UserError where none did."""
    found = {path.parents[1].name for path in runs.glob("[0-9]*/*/training/training.jsonl")}
    if not found:
        raise UserError(f"--runs: '{runs}' holds no {{seed}}/{{method}}/training/training.jsonl of system '{system}'.")
    return order_methods(found)
