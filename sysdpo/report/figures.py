"""The figures of a system, each one function from data frames to a `Figure`, and their writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.base.tables import VALUE_COLUMNS
from sysdpo.report import files
from sysdpo.report.credit import credit_figure
from sysdpo.report.curves import attributes, sampling, training
from sysdpo.report.dynamics import dynamics
from sysdpo.report.experiments import experiment_figure, read_experiment
from sysdpo.report.gallery import gallery, pick
from sysdpo.report.statistics import PROMPT, estimate
from sysdpo.report.style import INK, SOFT, label_points, line_style, look, save, styled
from sysdpo.report.views import SUBJECTS, method_view, metric_view, order_methods, show, system_view


def comparison(metrics: pd.DataFrame, headline: list[str]) -> Figure:
    """A panel a headline metric: one bar a method, its 95 % interval, and a line at `before`."""
    methods = order_methods(metrics["method"])
    with styled():
        figure = Figure(figsize=(3.7 * len(headline) + 1.6, 0.42 * len(methods) + 1.1), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(headline), sharey=True))
        for axes, metric in zip(panels, headline, strict=True):
            _bars(axes, metrics, metric, methods)
        panels[0].set_yticks(range(len(methods)), [method_view(name).label for name in methods])
        panels[0].invert_yaxis()
        for label, name in zip(panels[0].get_yticklabels(), methods, strict=True):
            label.set_color(INK)
            label.set_fontweight("bold" if name in SUBJECTS else "normal")
    return figure


def _bars(axes: Axes, metrics: pd.DataFrame, metric: str, methods: list[str]) -> None:
    view = metric_view(metric)
    furthest = view.scale * max(metrics.loc[metrics["metric"] == metric, "ci_high"].max(), 0)
    for place, method in enumerate(methods):
        row = files.value_of(metrics, method, metric)
        if row is None:
            continue
        mean, low, high = (float(row[name]) * view.scale for name in ("mean", "ci_low", "ci_high"))
        colour, hatch = look(method).colour, look(method).hatch
        axes.barh(place, mean, height=0.66, facecolor=colour, alpha=1 if method in SUBJECTS else 0.28, linewidth=0)
        axes.barh(place, mean, height=0.66, facecolor="none", edgecolor=colour, hatch=hatch, linewidth=0.9)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.5, solid_capstyle="butt")
        axes.plot([low, high], [place, place], color=INK, linestyle="", marker="|", markersize=7)
        paper = {"facecolor": "white", "linewidth": 0, "pad": 0.8}
        number = show(view, float(row["mean"]))
        axes.text(max(high, 0) + 0.025 * furthest, place, number, va="center", fontsize=9, bbox=paper)
    before = files.value_of(metrics, "before", metric)
    if before is not None:
        axes.axvline(float(before["mean"]) * view.scale, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)), zorder=2.5)
    arrow = "higher is better" if view.higher_is_better else "lower is better"
    axes.set_title(view.label + (f" ({view.unit})" if view.unit else ""))
    axes.set_xlabel(arrow, color=SOFT, fontsize=9)
    axes.set_xlim(right=furthest * 1.16)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def total_drift(values: pd.DataFrame) -> pd.DataFrame:
    """Sum of all `kl_*` metrics a method, with its interval: columns `method, mean, ci_low, ci_high`.

    `values`: rows a sample and metric, with columns seed, method, prompt_id, content, sample, metric, value.
    """
    drifts = values[values["metric"].str.startswith("kl_")]
    samples = drifts.groupby(["method", *PROMPT, "sample"], sort=True)["value"].sum()
    prompts = samples.groupby(level=["method", *PROMPT], sort=True).mean()
    rows = []
    for name, part in prompts.groupby(level="method"):
        found = estimate(part.droplevel("method"), what=f"the drift of '{name}'")
        rows.append((name, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=["method", "mean", "ci_low", "ci_high"])


def frontier(metrics: pd.DataFrame, drift: pd.DataFrame, score: str) -> Figure:
    """Score against how far the whole system moved from its reference: up and to the left is better."""
    view = metric_view(score)
    methods = [name for name in order_methods(metrics["method"]) if name in set(drift["method"])]
    with styled():
        figure = Figure(figsize=(6.6, 4.4), layout="constrained")
        axes = figure.subplots()
        points: dict[str, tuple[float, float, float, float]] = {}
        for method in methods:
            row = files.value_of(metrics, method, score)
            if row is None:
                continue
            moved = drift[drift["method"] == method].iloc[0]
            x, left, right = (float(moved[name]) for name in ("mean", "ci_low", "ci_high"))
            y, low, high = (float(row[name]) * view.scale for name in ("mean", "ci_low", "ci_high"))
            style: dict[str, Any] = line_style(method, size=9) | {"linestyle": ""}
            spread: dict[str, Any] = {
                "xerr": [[max(x - left, 0)], [max(right - x, 0)]],
                "yerr": [[y - low], [high - y]],
            }
            axes.errorbar(x, y, **spread, elinewidth=1.1, **style)
            points[method] = (x, y, low, high)
        axes.set_xlabel("KL from the reference system, all components together (nats)")
        axes.set_ylabel(view.label + (f" ({view.unit})" if view.unit else ""))
        axes.set_title("More score for less drift is up and to the left")
        furthest = max(point[0] for point in points.values()) or 1.0
        axes.set_xlim(-0.05 * furthest, 1.38 * furthest)
        axes.margins(y=0.12)
        label_points(figure, axes, points)
    return figure


def words(quality: dict[int, dict[str, Any]]) -> Figure:
    """What level of an attribute the painter draws for each word, against the level the word means.

    `quality`: a seed's `quality.json` each. A panel an attribute, points the mean over seeds, bars one
    standard deviation of the drawn images.
    """
    levels = pd.concat([pd.DataFrame(entry["painter_levels"]) for entry in quality.values()], ignore_index=True)
    names = list(dict.fromkeys(levels["attribute"]))
    with styled():
        figure = Figure(figsize=(3.1 * len(names), 3.5), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
        for axes, attribute in zip(panels, names, strict=True):
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
        panels[0].set_ylabel("level drawn (mean and spread)")
        figure.supxlabel(
            "the word, at the level it means; below it, how often the painter draws that level", fontsize=9
        )
    return figure


def write_figure(system: str, name: str, metrics_csv: Path, comparisons_csv: Path, runs: Path, output: Path) -> None:
    """Writes `{system}_{name}.png` and `.svg` into the folder `output`.

    `runs` is `results/runs/{system}`. Raises UserError where a file or column that the figure needs is missing, or for
    a name that no figure has.
    """
    metrics = files.read_metrics(metrics_csv, system)
    files.read_comparisons(comparisons_csv, system)
    view = system_view(system, metrics["metric"])
    methods = order_methods(metrics["method"])
    makers: dict[str, Callable[[], Figure]] = {
        "comparison": lambda: comparison(metrics, list(view.headline)),
        "training": lambda: training(files.read_training(runs, methods), view.components),
        "attributes": lambda: attributes(_samples(runs, methods), metrics),
        "gallery": lambda: gallery(pick(runs, methods)),
        "frontier": lambda: frontier(metrics, total_drift(_values(runs, methods)), view.headline[0]),
        "words": lambda: words(files.read_quality(runs)),
        "dynamics": lambda: dynamics(files.read_training(runs, methods), view.components),
        "credit": lambda: credit_figure(files.read_training(runs, methods), view.components),
        "sampling": lambda: sampling(files.read_training(runs, methods)),
    }
    if name not in makers:
        raise UserError(f"systems.{system}.figures: '{name}' should be one of {', '.join(makers)}.")
    save(makers[name](), output, f"{system}_{name}")


def write_experiment_figure(name: str, experiment_csv: Path, output: Path) -> None:
    """Writes `experiment_{name}.png` and `.svg` into the folder `output`.

    Beside `experiment_csv` there may be `{stem}_comparisons.csv` with differences of methods at every grid point.
    """
    table, differences = read_experiment(experiment_csv)
    save(experiment_figure(table, differences), output, f"experiment_{name}")


def _samples(runs: Path, methods: list[str]) -> pd.DataFrame:
    columns = ("prompt_id", "sample", "attribute_1", "attribute_2", "attribute_3")
    return files.read_samples(runs, methods, columns)


def _values(runs: Path, methods: list[str]) -> pd.DataFrame:
    return files.read_evaluations(runs, "metrics.parquet", methods, VALUE_COLUMNS)
