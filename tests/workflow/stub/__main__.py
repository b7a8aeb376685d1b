"""Stands in for the command line: writes the outputs each step promises, at once and without models.

`STUB_FAILS=step` makes that step write half of its output and fail.
"""

import argparse
import os
import sys
from pathlib import Path

FOLDERS = {
    "foundation": ["model.txt"],
    "dataset": ["trajectories.parquet", "pairs.parquet"],
    "train": ["training.jsonl"],
    "evaluate": ["metrics.parquet"],
}


def outputs(step: str, options: argparse.Namespace) -> list[Path]:
    if step in FOLDERS:
        return [options.output / name for name in FOLDERS[step]]
    if step == "gather":
        names = sorted(path.name for path in options.parts[0].iterdir()) if options.parts[0].is_dir() else [""]
        return [options.output / name for name in names]
    if step == "metrics":
        return [options.output, options.comparisons]
    if step == "tables":
        return [options.output.with_suffix(suffix) for suffix in (".csv", ".md", ".tex")]
    if step == "claims":
        return [options.output, options.output.with_suffix(".md")]
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
    for option in ("pairs", "metrics", "runs", "results", "figures", "claims", "descriptions"):
        parser.add_argument(f"--{option}", type=Path)
    for option in ("system", "seed", "method", "model", "experiment", "split", "figure", "study", "part", "checkpoint"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--ablations", action="store_true")
    for option in ("evaluations", "parts", "training"):
        parser.add_argument(f"--{option}", type=Path, nargs="+")
    for option in ("processes", "machines"):
        parser.add_argument(f"--{option}", type=int)
    options = parser.parse_args()

    named = [("part", options.part), ("processes", options.processes), ("machines", options.machines)]
    told = "".join(f", {name} {value}" for name, value in named if value is not None)
    print(f"{options.step} begins{told}", file=sys.stderr)
    inputs = [value for value in vars(options).values() if isinstance(value, Path)]
    missing = [str(path) for path in inputs if path != options.output and not path.exists()]
    if missing and options.step != "metrics":
        sys.exit(f"missing: {missing}")
    for path in outputs(options.step, options):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(path.name for path in options.parts) if options.parts else options.step)
        if os.environ.get("STUB_FAILS") == options.step:
            sys.exit(f"{options.step} failed as asked")


main()
