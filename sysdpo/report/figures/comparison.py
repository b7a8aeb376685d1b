"""Figure: every method's mean in the headline metrics."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.statistics import value_of
from sysdpo.report.style import INK, SOFT, look, styled, weight_of


@figure(
    heading="All methods",
    caption="Each bar is a mean over held-out prompts and seeds, the black line its 95 % interval. The dashed line is "
    "the system before alignment; filled bars are the paper's methods, which train all models with one loss.",
)
def comparison(run: Run) -> Figure:
    """One panel per headline metric: a bar with its 95 % interval per method, and a line at the reference."""
    shown, headline = run.shown, run.shown.headline
    with styled():
        drawn = Figure(figsize=(3.7 * len(headline) + 1.6, 0.42 * len(run.methods) + 1.1), layout="constrained")
        grid = drawn.subplots(1, len(headline), sharey=True, squeeze=False)[0]
        for axes, metric in zip(grid, headline, strict=True):
            _bars(axes, run, metric)
        grid[0].set_yticks(range(len(run.methods)), [shown.method(name).label for name in run.methods])
        grid[0].invert_yaxis()
        for label, name in zip(grid[0].get_yticklabels(), run.methods, strict=True):
            label.set_color(INK)
            label.set_fontweight(weight_of(shown, name))
    return drawn


def _bars(axes: Axes, run: Run, name: str) -> None:
    metric, metrics = run.shown.metric(name), run.metrics
    furthest = metric.scale * max(metrics.loc[metrics["metric"] == name, "ci_high"].max(), 0)
    for y, method in enumerate(run.methods):
        row = value_of(metrics, method, name)
        if row is None:
            continue
        mean, low, high = (float(row[column]) * metric.scale for column in ("mean", "ci_low", "ci_high"))
        drawn, alpha = look(run.shown, method), 1 if method in run.shown.subjects else 0.28
        axes.barh(y, mean, height=0.66, facecolor=drawn.colour, alpha=alpha, linewidth=0)
        axes.barh(y, mean, height=0.66, facecolor="none", edgecolor=drawn.colour, hatch=drawn.hatch, linewidth=0.9)
        axes.plot([low, high], [y, y], color=INK, linewidth=1.5, solid_capstyle="butt")
        axes.plot([low, high], [y, y], color=INK, linestyle="", marker="|", markersize=7)
        paper = {"facecolor": "white", "linewidth": 0, "pad": 0.8}
        number = metric.show(float(row["mean"]))
        axes.text(max(high, 0) + 0.025 * furthest, y, number, va="center", fontsize=9, bbox=paper)
    reference = value_of(metrics, run.shown.reference, name)
    if reference is not None:
        height = float(reference["mean"]) * metric.scale
        axes.axvline(height, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)), zorder=2.5)
    axes.set_title(metric.heading)
    axes.set_xlabel(f"{'higher' if metric.higher_is_better else 'lower'} is better", color=SOFT, fontsize=9)
    axes.set_xlim(right=furthest * 1.16)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
