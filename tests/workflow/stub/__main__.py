"""Stands in for the command line: writes the outputs each step promises, at once and without models.

`STUB_FAILS=step` makes that step write half of its output and fail.
"""

import argparse
import os
import sys
from pathlib import Path

FOLDERS = {"foundation": ["model.txt"], "train": ["training.jsonl"], "evaluate": ["metrics.parquet"]}


def outputs(step: str, options: argparse.Namespace) -> list[Path]:
    if step in FOLDERS:
        return [options.output / name for name in FOLDERS[step]]
    if step == "metrics":
        return [options.output, options.comparisons]
    if step == "tables":
        return [options.output.with_suffix(suffix) for suffix in (".csv", ".md", ".tex")]
    if step == "figure":
        return [options.output / f"{options.system}_{options.figure}.{kind}" for kind in ("png", "svg")]
    if step == "draw":
        return [options.output / f"study_{options.study}.{kind}" for kind in ("png", "svg")]
    if step == "experiment":
        figure = options.figures / f"experiment_{options.experiment}"
        return [options.output, figure.with_suffix(".png"), figure.with_suffix(".svg")]
    return [options.output]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("step")
    for option in ("config", "output", "comparisons", "prompts", "foundation", "trajectories", "scores", "table"):
        parser.add_argument(f"--{option}", type=Path)
    for option in ("pairs", "training", "metrics", "runs", "results", "figures"):
        parser.add_argument(f"--{option}", type=Path)
    for option in ("system", "seed", "method", "model", "experiment", "split", "figure", "study"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--evaluations", type=Path, nargs="+")
    options = parser.parse_args()

    print(f"{options.step} begins", file=sys.stderr)
    inputs = [value for value in vars(options).values() if isinstance(value, Path)]
    missing = [str(path) for path in inputs if path != options.output and not path.exists()]
    if missing and options.step != "metrics":
        sys.exit(f"missing: {missing}")
    for path in outputs(options.step, options):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(options.step)
        if os.environ.get("STUB_FAILS") == options.step:
            sys.exit(f"{options.step} failed as asked")


main()
