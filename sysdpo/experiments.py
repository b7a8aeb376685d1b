"""An experiment: the same methods at every point of a grid of settings, gathered into one table."""

from pathlib import Path

import pandas as pd

from sysdpo.config import Config, expand_experiments
from sysdpo.errors import UserError
from sysdpo.files import read_table, write_table
from sysdpo.report.figures import write_experiment_figure
from sysdpo.statistics import compare, summarise

EVALUATION_COLUMNS = ("prompt_id", "sample", "metric", "value")


def read_evaluations(folders: list[Path]) -> pd.DataFrame:
    """The long tables of evaluations at `…/{system}/{seed}/{method}/evaluation`, with those three as columns."""
    parts = []
    for folder in folders:
        system, seed, method = folder.parts[-4:-1]
        values = read_table(folder / "metrics.parquet", EVALUATION_COLUMNS)
        parts.append(values.assign(system=system, seed=int(seed), method=method))
    return pd.concat(parts, ignore_index=True)


def gather(experiment: str, config: Config, evaluations: list[Path], output: Path, figures: Path) -> None:
    """Write `output`, its sibling `{experiment}_comparisons.csv` (`direct` minus `separate` at each point, where both
    are there), and the figure.

    output: `experiment, variant, system, method`, a column per axis of the grid, then the columns of `metrics.csv`.
    """
    variants = {
        name: variant for name, variant in expand_experiments(config).items() if variant["experiment"] == experiment
    }
    if not variants:
        raise UserError(f"--experiment: '{experiment}' should be one of {sorted(config.get('experiments') or {})}")
    values = read_evaluations(evaluations)
    points = pd.DataFrame(
        [{"variant": name, "rival": variant["method"]} | variant["point"] for name, variant in variants.items()]
    )
    axes = [column for column in points.columns if column not in ("variant", "rival")]
    summary = summarise(values).rename(columns={"method": "variant"}).merge(points, on="variant")
    summary = summary.rename(columns={"rival": "method"}).assign(experiment=experiment)
    shown = ["experiment", "variant", "system", "method", *axes]
    write_table(summary[[*shown, *(column for column in summary.columns if column not in shown)]], output)
    differences = []
    for _, group in points.groupby(axes, sort=False):
        named = dict(zip(group["rival"], group["variant"], strict=True))
        if {"direct", "separate"} <= set(named):
            pair = values[values["method"].isin([named["direct"], named["separate"]])]
            pair = pair.replace({"method": {variant: method for method, variant in named.items()}})
            differences.append(
                compare(pair, ["separate"], ["direct"]).assign(**{axis: group[axis].iloc[0] for axis in axes})
            )
    if differences:
        write_table(pd.concat(differences, ignore_index=True), output.with_name(f"{experiment}_comparisons.csv"))
    write_experiment_figure(experiment, output, figures)
