"""Figure: loss, the share of pairs ranked right, and each component's margin over the updates."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sysdpo.report.curves import MARGIN, draw_methods, level, logged_components
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.style import SOFT, legend_below, panels, styled


@figure(
    heading="While training",
    caption="Loss, the share of pairs ranked right, and how far each model has come to prefer the chosen output over "
    "the rejected one (its margin). Lines are means over seeds, bands their range. A vertical dotted line starts a new "
    "round: fresh outputs are sampled and margins start at zero again. A model that is not trained has no line.",
)
def training(run: Run) -> Figure:
    """A panel each, one line a method; `accuracy` only where it was logged."""
    logs = run.training()
    columns = {"loss": "Loss", "accuracy": "Pairs ranked right (%)"}
    columns |= {
        f"{MARGIN}{name}": f"Margin of {run.shown.component(name)} (nats)"
        for name in logged_components(run.shown, logs)
    }
    columns = {name: title for name, title in columns.items() if name in logs.columns}
    methods = run.shown.order_methods(logs["method"])
    with styled():
        drawn, places, last = panels(len(columns), 4.6, 2.75, more=0.6, sharex=True)
        for axes, (column, title) in zip(places, columns.items(), strict=True):
            draw_methods(axes, run.shown, logs, column, methods)
            axes.set_title(title)
            if column.startswith(MARGIN):
                axes.axhline(0, color=SOFT, linewidth=0.9)
            if column == "loss":
                level(axes, np.log(2))
                right = axes.get_yaxis_transform()
                axes.text(1, np.log(2), "ln 2", color=SOFT, fontsize=8, transform=right, ha="right", va="bottom")
        for axes in last:
            axes.set_xlabel("update")
        legend_below(drawn, run.shown, methods)
    return drawn
