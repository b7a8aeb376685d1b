"""Figure: whether the objectives can differ, and how far each model moves, over the updates."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report.curves import draw_methods, is_logged, level, logged_components
from sysdpo.report.descriptions import Shown
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.style import SOFT, legend_below, styled

SCALES: dict[str, dict[str, Any]] = {"symlog": {"linthresh": 1.0}, "log": {"nonpositive": "mask"}}


def measures(shown: Shown) -> dict[str, tuple[str, str]]:
    """The label and axis scale of each measure, which is logged per component as `{measure}_{component}`."""
    pair = [f"{shown.method(name).short.lower()}'s" for name in (*shown.subjects[:1], shown.rival) if name]
    return {
        "scaled_margin": ("β times the margin's size", "log"),
        "gradient_cosine": (f"Cosine of {' and '.join(pair)} pull", "linear"),
        "gradient_norm": ("Norm of the gradient", "log"),
        "entropy": ("Entropy of its own draws (nats)", "linear"),
        "kl": ("KL from the reference (nats)", "symlog"),
    }


@figure(
    heading="What moves each model",
    caption="While β times a margin stays well below 1 (dashed) the sigmoid is as good as linear: {subject} and "
    "{rival} pull each model in the same direction (a cosine near 1) and differ in how hard alone, and a "
    "tie there says nothing about them. Below, how hard each model is pulled, how undecided it is about "
    "its own outputs, and how far it has gone; a picture has no entropy here, and the KL divergence of "
    "its denoising is an upper bound over the whole schedule. Lines are means over seeds, bands their "
    "range.",
)
def dynamics(run: Run) -> Figure:
    """One row per logged measure, one column per component, one line per method."""
    logs, shown = run.training(), run.shown
    names = logged_components(shown, logs)
    known = measures(shown)
    rows = [name for name in known if any(is_logged(logs, f"{name}_{component}") for component in names)]
    if not rows:
        raise UserError("figures: 'dynamics' needs trainings that log it; set training.monitor_every above 0.")
    methods = shown.order_methods(logs["method"])
    with styled():
        drawn = Figure(figsize=(4.6 * len(names), 2.3 * len(rows) + 0.8), layout="constrained")
        grid = drawn.subplots(len(rows), len(names), sharex=True, squeeze=False)
        for row, measure in zip(grid, rows, strict=True):
            label, scale = known[measure]
            for axes, name in zip(row, names, strict=True):
                column = f"{measure}_{name}"
                axes.set_title(f"{label}: {shown.component(name)}", fontsize=9.5)
                if not is_logged(logs, column):
                    axes.text(0.5, 0.5, "not defined", transform=axes.transAxes, ha="center", color=SOFT)
                    continue
                draw_methods(axes, shown, logs, column, methods)
                # Before the first update the margin is zero, which has no logarithm.
                axes.set_yscale(scale, **SCALES.get(scale, {}))
                if measure == "scaled_margin":  # above 1 the sigmoid is not linear
                    level(axes, 1)
        for axes in grid[-1]:
            axes.set_xlabel("update")
        legend_below(drawn, shown, methods)
    return drawn
