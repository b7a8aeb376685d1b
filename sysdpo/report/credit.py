"""Credit assignment: each component's share of the margin, and whether the chosen output became likelier at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.curves import logged_components
from sysdpo.report.descriptions import Shown

QUANTITIES = ("margin", "chosen", "rejected")
END = 0.1
"""The last share of the updates, over which final values are averaged: a single batch is too noisy."""


def credit_table(logs: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """How each method's margin splits over its trained components, and whether likelihood displacement happened.

    `logs`: columns seed, method, step, and `margin_`, `chosen_`, `rejected_{component}` in nats, empty if a method does
    not train the component. Every number is a mean over the last tenth of the updates, then over seeds; `_low` and
    `_high` are the range over seeds. `share` is the component's margin divided by the total, empty unless that is above
    0. `displaced` is yes if both log-ratios are below 0: the preference was learnt by making the chosen output less
    likely, too, than under the reference (likelihood displacement, Razin et al., arXiv 2410.08847); `displaced_seeds`
    counts the seeds for which that is true.
    """
    rows = []
    components = sorted(logged_components(shown, logs))
    for method in shown.order_methods(logs["method"]):
        log = logs[logs["method"] == method]
        ends = {name: end for name in components if len(end := _ends(log, name))}
        total = sum(float(end["margin"].mean()) for end in ends.values())
        for name, end in ends.items():
            means, below = end.mean(), (end["chosen"] < 0) & (end["rejected"] < 0)
            row: dict[str, object] = {"method": method, "component": name}
            row |= _spread("margin", end["margin"]) | {"share": means["margin"] / total if total > 0 else np.nan}
            for value in ("chosen", "rejected"):
                row |= _spread(f"{value}_log_ratio", end[value])
            row["displaced"] = "yes" if means["chosen"] < 0 and means["rejected"] < 0 else "no"
            rows.append(row | {"displaced_seeds": int(below.sum()), "n_seeds": len(end)})
    return pd.DataFrame(rows)


def _spread(name: str, values: pd.Series) -> dict[str, float]:
    return {name: values.mean(), f"{name}_low": values.min(), f"{name}_high": values.max()}


def _ends(logs: pd.DataFrame, component: str) -> pd.DataFrame:
    """A component's `margin`, `chosen` and `rejected` at the end of training, a row per seed."""
    columns = {f"{quantity}_{component}": quantity for quantity in QUANTITIES}
    if missing := [name for name in columns if name not in logs.columns]:
        raise UserError(f"The training logs have no field '{missing[0]}'; train again.")
    logged = logs[["seed", "step", *columns]].dropna().rename(columns=columns).sort_values("step")
    last = [log.tail(max(1, round(END * len(log)))) for _, log in logged.groupby("seed")]
    ends = pd.concat(last) if last else logged
    return ends.groupby("seed")[list(QUANTITIES)].mean()


def write_credit_table(shown: Shown, runs: Path, output_csv: Path, methods: Collection[str] | None = None) -> None:
    """Write `credit_table` of these methods' logs below `runs` (None: all); raises `UserError` without logs."""
    table = credit_table(files.read_training(runs, methods), shown)
    files.write_text(output_csv, table.to_csv(index=False, float_format="%.6g"))
