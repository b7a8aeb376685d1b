"""How much seeds differ in finished runs, as docs/statistics.md has it: `python benchmarks/seed_variance.py RESULTS…`.

For every share of outputs that a row was evaluated by: the variance of the seeds' true means, in multiples of what the
choice of prompts adds to the variance of one seed's mean, both by a two-way analysis of variance (our choice).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

HEADLINES = ("order_consistency", "readout_order_consistency", "accuracy", "well_formed")


def multiple(values: pd.DataFrame) -> tuple[float, float]:
    """The mean, and the multiple; values: columns `seed, content, value`."""
    table = values.groupby(["seed", "content"])["value"].mean().unstack(0).to_numpy()
    contents, seeds = table.shape
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    noise = (residual**2).sum() / ((seeds - 1) * (contents - 1)) / contents
    between = max(0.0, table.mean(0).var(ddof=1) - noise)
    within = np.mean(table.var(0, ddof=1) / contents)
    return float(table.mean()), float(between / within) if within else np.nan


def main(folders: list[str]) -> None:
    """Print a line for every system, row and metric, the largest multiple first."""
    found = []
    for folder in folders:
        for path in sorted(Path(folder).glob("runs/*/[0-9]*/*/evaluation/metrics.parquet")):
            system, seed, method = path.parts[-5:-2]
            found.append(pd.read_parquet(path).assign(system=system, seed=int(seed), method=method))
    table = pd.concat(found)
    table = table[table["metric"].str.removesuffix("_greedy").isin(HEADLINES)]
    rows = [(*key, *multiple(values)) for key, values in table.groupby(["system", "method", "metric"])]
    shown = pd.DataFrame(rows, columns=["system", "method", "metric", "mean", "multiple"])
    print(shown.sort_values("multiple", ascending=False).round(2).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1:])
