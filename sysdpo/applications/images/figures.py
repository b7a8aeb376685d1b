"""Figures for series of pictures: the attribute from image to image, and how the painter reads words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sysdpo.applications.images.shown import PICTURES
from sysdpo.report import files
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.statistics import PROMPT, estimate, value_of
from sysdpo.report.style import INK, SOFT, line_style, panels, styled

ORDERED = "order_consistency"


@figure(
    heading="From the first image to the last",
    caption="How much of what was asked for (anger, or calm) the scorer sees in the first, second and third image. "
    "A steep, even line is what the prompts ask for. The thin dashed line is the system before alignment; bars "
    "are 95 % intervals.",
)
def attributes(run: Run) -> Figure:
    """One panel per method: each image's requested attribute with 95 % intervals, and the reference behind it."""
    columns, shown = list(PICTURES.levels), run.shown
    samples = run.samples(levels=columns, direction=PICTURES.direction)
    lines = {name: _levels(samples[samples["method"] == name], columns) for name in run.methods}
    images = range(1, len(columns) + 1)
    with styled():
        drawn, axes_of_methods, _ = panels(len(lines), 2.35, 2.3, across=4, more=0.3, sharex=True, sharey=True)
        for axes, method in zip(axes_of_methods, run.methods, strict=True):
            if shown.reference in lines and method != shown.reference:
                axes.plot(images, lines[shown.reference][:, 0], color=SOFT, linestyle=(0, (3, 3)), lw=1.1)
            means, low, high = lines[method].T
            style: dict[str, Any] = line_style(shown, method, size=5.5)
            axes.errorbar(images, means, yerr=[means - low, high - means], elinewidth=1.2, capsize=2.5, **style)
            axes.set_title(shown.method(method).label, fontsize=9.5)
            row = value_of(run.metrics, method, ORDERED)
            if row is not None:
                share = f"{shown.metric(ORDERED).show(float(row['mean']))} % in order"
                axes.text(0.04, 0.95, share, transform=axes.transAxes, fontsize=8.5, color=INK, va="top")
            axes.set_ylim(0, 1)
            axes.set_xlim(0.7, len(columns) + 0.3)
            axes.set_xticks(images)
        drawn.supxlabel("image", fontsize=9.5)
        drawn.supylabel("what was asked for, by the regressor", fontsize=9.5)
    return drawn


def _levels(samples: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Mean and interval of each image's attribute: `[images, 3]`."""
    prompts = samples.sort_values([*PROMPT, "sample"]).groupby(PROMPT, sort=True)[columns].mean()
    return np.array([estimate(prompts[column], what=f"'{column}'")[:3] for column in columns])


@figure(
    heading="How the painter reads words, before alignment",
    caption="For each word the level it means (across) and the level drawn (up); a perfect painter would follow "
    "the dashed line. Bars are one standard deviation; percentages say how often the drawn level is the "
    "right one.",
)
def words(run: Run) -> Figure:
    """One panel per attribute: means over seeds, with bars of one standard deviation of the drawn images."""
    qualities = files.read_quality(run.folder).values()
    levels = pd.concat([pd.DataFrame(quality["painter_levels"]) for quality in qualities], ignore_index=True)
    names = list(dict.fromkeys(levels["attribute"]))
    with styled():
        drawn, axes_of_attributes, _ = panels(len(names), 3.1, 3.5, across=len(names), sharey=True)
        for axes, attribute in zip(axes_of_attributes, names, strict=True):
            rows = levels[levels["attribute"] == attribute].groupby("word", sort=False).mean(numeric_only=True)
            rows = rows.sort_values("level_asked")
            axes.plot([0, 1], [0, 1], color=SOFT, linestyle=(0, (3, 3)), linewidth=1)
            axes.errorbar(
                rows["level_asked"], rows["level_drawn_mean"], yerr=rows["level_drawn_std"], color="#0072b2",
                marker="s", markersize=6, linewidth=1.4, elinewidth=1.1, capsize=3,
            )  # fmt: skip
            shares = [f"{word}\n{100 * share:.0f} %" for word, share in rows["right_share"].items()]
            axes.set_xticks(rows["level_asked"], shares, fontsize=8, rotation=0)
            axes.set_title(str(attribute).capitalize())
            axes.set_xlim(-0.08, 1.08)
            axes.set_ylim(-0.08, 1.08)
        axes_of_attributes[0].set_ylabel("level drawn (mean and spread)")
        below = "the word, at the level it means; below it, how often the painter draws that level"
        drawn.supxlabel(below, fontsize=9)
    return drawn
