"""Figure: the score against the drift from the reference."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.statistics import total_drift, value_of
from sysdpo.report.style import label_points, line_style, styled


@figure(
    heading="Score against drift",
    caption="Every preference method buys score with distance from the system it started from. Of two methods at the "
    "same height the one further left paid less. Best of n changes no model, so it stands at zero: it pays in samples "
    "at every use instead.",
)
def frontier(run: Run) -> Figure:
    """The first headline metric over the total drift of all components; up and to the left is better."""
    name, shown, drift = run.shown.headline[0], run.shown, total_drift(run.values())
    metric = shown.metric(name)
    with styled():
        drawn = Figure(figsize=(6.6, 4.4), layout="constrained")
        axes = drawn.subplots()
        points: dict[str, tuple[float, float, float, float]] = {}
        for method in run.methods:
            row = value_of(run.metrics, method, name)
            if row is None or method not in drift.index:
                continue
            x, left, right = drift.T[method].to_numpy(dtype=float)
            y, low, high = (float(row[column]) * metric.scale for column in ("mean", "ci_low", "ci_high"))
            style: dict[str, Any] = line_style(shown, method, size=9) | {"linestyle": ""}
            moved, scored = [[max(x - left, 0)], [max(right - x, 0)]], [[y - low], [high - y]]
            axes.errorbar(x, y, xerr=moved, yerr=scored, elinewidth=1.1, **style)
            points[method] = (x, y, low, high)
        axes.set_xlabel("KL from the reference system, all components together (nats)")
        axes.set_ylabel(metric.heading)
        axes.set_title("More score for less drift is up and to the left")
        furthest = max(point[0] for point in points.values()) or 1.0
        axes.set_xlim(-0.05 * furthest, 1.38 * furthest)
        axes.margins(y=0.12)
        label_points(drawn, axes, shown, points)
    return drawn
