"""Whether training a part of the crew reaches half of what training all of it gains, as docs/crew.md has it.

    python benchmarks/crew_parts.py results/crew/runs/crew

For every row that trains one or two of the models, and for either decoding: half of the joint gain less the row's own,
`(joint − before)/2 − (row − before)` of every prompt and seed, in points, with the interval that all means have
(docs/statistics.md). Above 0 the row reaches less than half.
"""

import sys
from pathlib import Path

import pandas as pd

from sysdpo.report.statistics import PROMPT, estimate

PARTS = ("only_writer", "only_painter", "only_checker", "writer_painter", "writer_checker", "painter_checker")
JOINT = ("direct", "sampling")
METRICS = ("delivered", "delivered_greedy")


def shares(runs: Path, metric: str) -> pd.DataFrame:
    """What is delivered, a column for each method, a row for each seed and prompt."""
    found = []
    for path in sorted(runs.glob("[0-9]*/*/evaluation/metrics.parquet")):
        seed, method = path.parts[-4:-2]
        rows = pd.read_parquet(path)
        found.append(rows[rows["metric"] == metric].assign(seed=int(seed), method=method))
    table = pd.concat(found).pivot_table(index=PROMPT, columns="method", values="value")
    return table[table["before"].notna()]  # trials are evaluated on other prompts


def main(runs: Path) -> None:
    """Print a line for every joint row, part and decoding: the part's gain, the joint gain, and the contrast."""
    for metric in METRICS:
        of = shares(runs, metric)
        for joint in JOINT:
            whole = of[joint] - of["before"]
            for part in PARTS:
                own = of[part] - of["before"]
                contrast = estimate(whole / 2 - own, what=part)
                told = [f"{100 * value:+6.1f}" for value in (own.mean(), whole.mean(), *contrast[:3])]
                print(f"{metric:18}{joint:10}{part:17}{told[0]} of {told[1]}: {told[2]} [{told[3]}, {told[4]}]")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
