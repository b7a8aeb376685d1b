"""The training curves that a reader's pointer can ask for their values: the data of the page's script."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sysdpo.report.curves import SHARES, logged_quantities, smoothed
from sysdpo.report.files import LOG
from sysdpo.report.run import Run
from sysdpo.report.style import look

MOST_POINTS = 150  # of a curve: more than a screen shows, and few enough for a small page
DIGITS = 4  # significant ones


def live_curves(run: Run) -> list[dict[str, Any]]:
    """A panel for each logged quantity: `title`, the updates `steps`, and `rows`, one for each method that logged it,
    with its `label`, its `colour`, whether it is `dashed`, and its `values`, smoothed means over seeds.
    """
    if not any(run.folder.glob(f"[0-9]*/*/training/{LOG}")):
        return []
    logs = run.training()
    methods = run.shown.order_methods(logs["method"])
    by_method = {method: logs[logs["method"] == method] for method in methods}
    panels = []
    for column, title in logged_quantities(run.shown, logs).items():
        curves = {method: _curve(rows, column) for method, rows in by_method.items()}
        table = pd.DataFrame({method: curve for method, curve in curves.items() if curve is not None}).sort_index()
        if table.empty:
            continue
        width = -(-len(table) // MOST_POINTS)
        means = table.groupby(np.arange(len(table)) // width).mean()
        rows = [_row(run, str(method), means[method]) for method in means.columns]
        panels.append({"title": title, "steps": [int(step) for step in table.index[::width]], "rows": rows})
    return panels


def _curve(logs: pd.DataFrame, column: str) -> pd.Series | None:
    """One method's smoothed mean over seeds by step; None if it did not log the column."""
    tables = smoothed(logs, column)
    if not tables:
        return None
    scale = 100.0 if column in SHARES else 1.0
    # A round may start at the step at which the one before it ended.
    return pd.concat([table.mean(axis=1) for table in tables]).groupby(level=0).mean() * scale


def _row(run: Run, method: str, values: pd.Series) -> dict[str, Any]:
    drawn = look(run.shown, method)
    numbers = [None if np.isnan(value) else float(f"{value:.{DIGITS}g}") for value in values]
    label = run.shown.method(method).label
    return {"label": label, "colour": drawn.colour, "dashed": drawn.dash != "-", "values": numbers}
