"""Which component earns the preference: its share of the margin, and whether the chosen became likelier at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.curves import logged_components
from sysdpo.report.descriptions import Shown

PARTS = ("margin", "chosen", "rejected")
END = 0.1
"""The last part of the updates that an end value is averaged over: a single batch says little."""


def credit_table(logs: pd.DataFrame, shown: Shown) -> pd.DataFrame:
    """How each method's margin splits over the components it trains, and whether displacement happened.

    `logs`: columns seed, method, step, and `margin_`, `chosen_`, `rejected_{component}` in nats, empty where a method
    does not train the component. Every number is a mean over the last tenth of the updates, then over seeds; `_low` and
    `_high` are the range over seeds. `share` is the component's margin over that of all, empty where that is not above
    0. `displaced` is yes where both log-ratios are below 0: the preference was learnt by making the chosen, too, less
    likely than under the reference (likelihood displacement, Razin et al., arXiv 2410.08847); `displaced_seeds` counts
    the seeds of which that is true.
    """
    rows = []
    components = sorted(logged_components(shown, logs))
    for method in shown.order_methods(logs["method"]):
        part = logs[logs["method"] == method]
        ends = {name: end for name in components if len(end := _ends(part, name))}
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
    """`margin`, `chosen` and `rejected` of a component at the end of training, a row a seed."""
    columns = {f"{part}_{component}": part for part in PARTS}
    if missing := [name for name in columns if name not in logs.columns]:
        raise UserError(f"The training logs have no field '{missing[0]}'; train again.")
    logged = logs[["seed", "step", *columns]].dropna().rename(columns=columns).sort_values("step")
    last = [part.tail(max(1, round(END * len(part)))) for _, part in logged.groupby("seed")]
    kept = pd.concat(last) if last else logged
    return kept.groupby("seed")[list(PARTS)].mean()


def write_credit_table(shown: Shown, runs: Path, output_csv: Path, methods: Collection[str] | None = None) -> None:
    """Writes `credit_table` of these methods' logs below `runs` (None: all); `UserError` where there are none."""
    files.write_text(
        output_csv, credit_table(files.read_training(runs, methods), shown).to_csv(index=False, float_format="%.6g")
    )
