"""Reading the files of a run, and writing reports atomically."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table, whole
from sysdpo.base.tables import check_comparisons, check_metrics, check_rows, contents_of
from sysdpo.report.statistics import COMPARISON_COLUMNS, METRIC_COLUMNS

SAMPLES, VALUES = "samples.parquet", "metrics.parquet"
KEYS = {SAMPLES: ("prompt_id", "sample"), VALUES: ("prompt_id", "sample", "metric")}
"""An evaluation's tables, and the key columns of each."""
LOG = "training.jsonl"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with whole(path) as partial:
        partial.write_bytes(text.encode())


def read_metrics(path: Path, system: str | None = None) -> pd.DataFrame:
    """`metrics.csv`, or only one system's rows; raises `UserError` if it is invalid or has no such rows."""
    return _read(path, METRIC_COLUMNS, check_metrics, system)


def read_comparisons(path: Path, system: str | None = None) -> pd.DataFrame:
    """`comparisons.csv`, or only one system's rows; raises `UserError` if it is invalid or has no such rows."""
    return _read(path, COMPARISON_COLUMNS, check_comparisons, system)


def _read(path: Path, columns: Sequence[str], check: Callable[..., None], system: str | None) -> pd.DataFrame:
    table = read_table(path, columns)
    check(table, f"'{path}'")
    rows = table if system is None else table[table["system"] == system]
    if rows.empty:
        systems = ", ".join(sorted(set(table["system"])))
        raise UserError(f"{path} has no rows for system '{system}'; it has {systems}.")
    return rows.reset_index(drop=True)


def read_prompts(runs: Path, columns: Sequence[str]) -> pd.DataFrame:
    """`runs/prompts.parquet`, which needs these columns; raises `UserError` if it is invalid."""
    path = runs / "prompts.parquet"
    table = read_table(path, columns)
    check_rows(table, f"'{path}'", keys=("prompt_id",))
    return table


def seeds_of(runs: Path) -> list[int]:
    """The seeds with a folder below `runs` (`results/runs/{system}`), ascending."""
    seeds = sorted(int(folder.name) for folder in runs.glob("*") if folder.is_dir() and folder.name.isdigit())
    if not seeds:
        raise UserError(f"{runs} holds no run: a folder named by its seed, such as {runs / '0'}, is expected.")
    return seeds


def read_evaluations(
    runs: Path, name: str, methods: Sequence[str], columns: Sequence[str], *, seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """`runs/{seed}/{method}/evaluation/{name}` of all seeds and methods, with columns `seed` and `method`."""
    tables = []
    for seed in seeds_of(runs) if seeds is None else seeds:
        for method in methods:
            path = runs / str(seed) / method / "evaluation" / name
            if path.is_file():
                table = read_table(path, columns)
                check_rows(table, f"'{path}'", keys=KEYS[name])
                tables.append(table.assign(seed=seed, method=method))
    if not tables:
        raise UserError(f"No method has a file evaluation/{name} below {runs}; evaluate the methods first.")
    return pd.concat(tables, ignore_index=True)


def read_samples(
    runs: Path,
    methods: Sequence[str],
    columns: Sequence[str],
    *,
    levels: Sequence[str] = (),
    direction: str = "",
    seeds: Sequence[int] | None = None,
) -> pd.DataFrame:
    """`samples.parquet` of all seeds and methods, with each prompt's `content`.

    levels: columns that are replaced by 1 minus their value where the prompts' column `direction` is negative, so that
    every prompt asks for a rise.
    """
    samples = read_evaluations(runs, SAMPLES, methods, (*columns, *levels), seeds=seeds)
    prompts = read_prompts(runs, ("prompt_id",))
    samples["content"] = samples["prompt_id"].map(contents_of(prompts))
    if direction in prompts.columns:
        falls = samples["prompt_id"].map(prompts.set_index("prompt_id")[direction]).to_numpy() < 0
        for name in levels:
            samples[name] = samples[name].where(~falls, 1 - samples[name])
    return samples


def read_training(runs: Path, methods: Collection[str] | None = None) -> pd.DataFrame:
    """All logs below `runs`, of these methods or all, with `seed` and `method`; `step` continues across rounds."""
    paths = sorted(runs.glob(f"[0-9]*/*/training/{LOG}"))
    logs = [(path, int(path.parents[2].name), path.parents[1].name) for path in paths]
    selected = [log for log in logs if methods is None or log[2] in methods]
    if not selected:
        raise UserError(f"'{runs}' holds no {{seed}}/{{method}}/training/{LOG}; train a method first.")
    tables = [_continued(_read_lines(path)).assign(seed=seed, method=method) for path, seed, method in selected]
    return pd.concat(tables, ignore_index=True)


def _read_lines(path: Path) -> pd.DataFrame:
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except json.JSONDecodeError as problem:
        raise UserError(f"{path} has a line that is not JSON: {problem}.") from problem
    table = pd.DataFrame(lines)
    for column in ("step", "loss"):
        if column not in table.columns:
            raise UserError(f"{path} has no field '{column}'; every line needs step and loss.")
    return table


def _continued(table: pd.DataFrame) -> pd.DataFrame:
    """The log with steps that continue across rounds, even if it restarts them at 0 in every round."""
    starts_again = table["step"].diff() < 0
    last_before = table["step"].shift().where(starts_again, 0).fillna(0)
    return table.assign(step=table["step"] + last_before.cumsum())


def read_quality(runs: Path) -> dict[int, dict[str, Any]]:
    """The content of `foundation/quality.json`, by seed, for the seeds that have one."""
    paths = {seed: runs / str(seed) / "foundation" / "quality.json" for seed in seeds_of(runs)}
    qualities = {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}
    if not qualities:
        raise UserError(f"No seed has a file foundation/quality.json below {runs}; inspect the foundation first.")
    return qualities
