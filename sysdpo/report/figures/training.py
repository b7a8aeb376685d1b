"""Figure: loss, the share of pairs ranked right, and each component's margin over the updates."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sysdpo.report.curves import MARGIN, level, logged_quantities, method_panels
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.style import SOFT, styled


@figure(
    heading="While training",
    caption="Loss, the share of pairs ranked right, and how far each model has come to prefer the chosen output over "
    "the rejected one (its margin). Lines are means over seeds, bands their range. A vertical dotted line starts a new "
    "round: fresh outputs are sampled and margins start at zero again. A model that is not trained has no line.",
)
def training(run: Run) -> Figure:
    """One panel per quantity, one line per method; `accuracy` only if it was logged."""
    logs = run.training()
    columns = logged_quantities(run.shown, logs)
    with styled():
        drawn, panels = method_panels(run.shown, logs, columns, run.shown.order_methods(logs["method"]))
        for column, axes in panels.items():
            if column.startswith(MARGIN):
                axes.axhline(0, color=SOFT, linewidth=0.9)
        level(panels["loss"], np.log(2))
        right_edge = panels["loss"].get_yaxis_transform()
        panels["loss"].text(1, np.log(2), "ln 2", color=SOFT, fontsize=8, transform=right_edge, ha="right", va="bottom")
    return drawn
