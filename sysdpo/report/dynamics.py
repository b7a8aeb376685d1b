"""Figure: whether the objectives could differ at all, and how far each model went, over the updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report.curves import curve, mark_rounds
from sysdpo.report.style import SOFT, legend_below, styled
from sysdpo.report.views import component_name, order_components, order_methods

MEASURES = {
    "scaled_margin": ("β times the margin's size", "log"),
    "gradient_cosine": ("Cosine of direct's and separate's pull", "linear"),
    "gradient_norm": ("Norm of the gradient", "log"),
    "entropy": ("Entropy of its own draws (nats)", "linear"),
    "kl": ("KL from the reference (nats)", "symlog"),
}
"""What is logged of each component as `{measure}_{component}`, how it is called, and the scale it is drawn on."""


SCALES: dict[str, dict[str, Any]] = {"symlog": {"linthresh": 1.0}, "log": {"nonpositive": "mask"}}


def dynamics(logs: pd.DataFrame, components: dict[str, str]) -> Figure:
    """A row a measure, a column a component, one line a method: mean over seeds, band their range.

    `logs`: columns seed, method, step, and `{measure}_{component}` for the `MEASURES`, empty where a method does not
    train the component or was not looked at. `components`: a component's name for people, where it has one. Raises
    UserError where none of it was logged.
    """
    logged = [name.removeprefix("margin_") for name in logs.columns if name.startswith("margin_")]
    names = order_components(logged, components)
    shown = [name for name in MEASURES if any(_is_there(logs, f"{name}_{each}") for each in names)]
    if not shown:
        raise UserError("figures: 'dynamics' needs trainings that log it; set training.monitor_every above 0.")
    methods = order_methods(logs["method"])
    with styled():
        figure = Figure(figsize=(4.6 * len(names), 2.3 * len(shown) + 0.8), layout="constrained")
        grid = np.atleast_2d(figure.subplots(len(shown), len(names), sharex=True, squeeze=False))
        for row, measure in zip(grid, shown, strict=True):
            label, scale = MEASURES[measure]
            for axes, name in zip(row, names, strict=True):
                column = f"{measure}_{name}"
                axes.set_title(f"{label}: {component_name(name, components)}", fontsize=9.5)
                if not _is_there(logs, column):
                    axes.text(0.5, 0.5, "not defined", transform=axes.transAxes, ha="center", color=SOFT)
                    continue
                for place, method in enumerate(methods):
                    part = logs[logs["method"] == method]
                    if part[column].notna().any():
                        curve(axes, part, column, method, place / len(methods))
                # Before the first update a margin is zero, which has no logarithm.
                axes.set_yscale(scale, **SCALES.get(scale, {}))
                if measure == "scaled_margin":  # above it the sigmoid bends
                    axes.axhline(1, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
                mark_rounds(axes, logs)
        for axes in grid[-1]:
            axes.set_xlabel("update")
        legend_below(figure, methods)
    return figure


def _is_there(logs: pd.DataFrame, column: str) -> bool:
    return column in logs.columns and bool(logs[column].notna().any())
