"""Figure: the quality of the candidates in a sum over hidden values, over the updates."""

from __future__ import annotations

from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report.curves import SHARES, is_logged, level, method_panels
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.style import styled

COLUMNS = {
    "effective_sample_size": "Effective sample size of the weights",
    "likeliest_candidate": "Weight of the likeliest candidate (%)",
    "candidates": "Distinct candidates",
    "candidate_mass": "Probability the candidates hold (%)",
}


@figure(
    heading="The candidates of {hidden}",
    caption="What is hidden is summed over candidates, each weighted by how well it explains the output. An effective "
    "sample size near 1 (dashed) means that one candidate explains it alone, and the sum has collapsed to it. Below, "
    "how probable all candidates together are under the model. Means over seeds, bands their range.",
)
def sampling(run: Run) -> Figure:
    """One panel per logged column of `COLUMNS`, one line per method with several candidates.

    Raises `UserError` if no method has several.
    """
    logs = run.training()
    several = logs[logs["candidates"] > 1] if "candidates" in logs.columns else logs.iloc[:0]
    methods = run.shown.order_methods(several["method"])
    if not methods:
        raise UserError("figures: 'sampling' should stand only at a system with a method that has several candidates.")
    columns = {name: title for name, title in COLUMNS.items() if is_logged(several, name)}
    with styled():
        drawn, panels = method_panels(run.shown, logs[logs["method"].isin(methods)], columns, methods)
        for column, axes in panels.items():
            if column in SHARES:
                axes.set_ylim(0, 103)
            else:
                level(axes, 1)
                axes.set_ylim(0.8, max(axes.get_ylim()[1], 2))
    return drawn
