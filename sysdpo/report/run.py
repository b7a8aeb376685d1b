"""The data of a figure: one system of a run, its tables, and its logs and samples, which are read on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from sysdpo.base.tables import VALUE_COLUMNS
from sysdpo.report import files
from sysdpo.report.descriptions import Descriptions, Shown
from sysdpo.report.figure import figure_name, load_figure
from sysdpo.report.style import save


@dataclass(frozen=True)
class Run:
    """What a figure is drawn from: one system of a run.

    shown: its description, with the names of metrics and methods. metrics: its rows of `metrics.csv`. comparisons: its
    rows of `comparisons.csv`. folder: `results/runs/{system}`.
    """

    shown: Shown
    metrics: pd.DataFrame
    comparisons: pd.DataFrame
    folder: Path

    @cached_property
    def methods(self) -> list[str]:
        """The measured methods in display order."""
        return self.shown.order_methods(self.metrics["method"])

    def training(self) -> pd.DataFrame:
        """Every logged update of every method and seed; see `files.read_training`."""
        return files.read_training(self.folder, self.methods)

    def samples(self, columns: Sequence[str] = (), **options: Any) -> pd.DataFrame:
        """Every sample of every method and seed, with these columns; see `files.read_samples`."""
        return files.read_samples(self.folder, self.methods, ("prompt_id", "sample", *columns), **options)

    def values(self) -> pd.DataFrame:
        """One row per sample and metric: columns seed, method, prompt_id, content, sample, metric, value."""
        return files.read_evaluations(self.folder, files.VALUES, self.methods, VALUE_COLUMNS)


def read_run(system: str, descriptions: Descriptions, metrics_csv: Path, comparisons_csv: Path, runs: Path) -> Run:
    """`runs` is `results/runs/{system}`. Raises `UserError` if a table is invalid or has no rows of the system."""
    metrics = files.read_metrics(metrics_csv, system)
    shown = descriptions.system(system).among(metrics["metric"])
    return Run(shown, metrics, files.read_comparisons(comparisons_csv, system), runs)


def write_figure(run: Run, reference: str, output: Path) -> None:
    """Write `{system}_{figure}.png` and `.svg` into the folder `output`; `reference` is the figure in a configuration.

    Raises `UserError` if there is no such figure, or if a file or column that it needs is missing.
    """
    drawing = load_figure(reference, f"systems.{run.shown.name}.figures")
    save(drawing.draw(run), output, f"{run.shown.name}_{figure_name(reference)}")
