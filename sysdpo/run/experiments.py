"""An experiment: the same methods at every point of a grid of settings, gathered into one table."""

from pathlib import Path

import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table, write_table
from sysdpo.base.tables import VALUE_COLUMNS, check_values
from sysdpo.method.config import Config, expand_experiments, method_settings
from sysdpo.method.description import ACCURACY
from sysdpo.report.descriptions import Descriptions
from sysdpo.report.experiments import write_experiment_figure
from sysdpo.report.statistics import compare, summarise


def read_evaluations(folders: list[Path]) -> pd.DataFrame:
    """The long tables of evaluations at `…/{system}/{seed}/{method}/evaluation`, joined, with these as columns."""
    parts, seen = [], set()
    for folder in folders:
        named = folder.parts[-4:-1]
        if len(named) < 3 or not named[1].isdecimal():
            raise UserError(f"--evaluations: '{folder}' should end with '{{system}}/{{seed}}/{{method}}/evaluation'")
        if named in seen:
            raise UserError(
                f"--evaluations: '{folder}' is given twice, or is another one of the same system and method"
            )
        seen.add(named)
        values = read_table(folder / "metrics.parquet", VALUE_COLUMNS)
        check_values(values, f"'{folder / 'metrics.parquet'}'")
        parts.append(values.assign(system=named[0], seed=int(named[1]), method=named[2]))
    return pd.concat(parts, ignore_index=True)


def summary_of(values: pd.DataFrame, config: Config, descriptions: Descriptions) -> pd.DataFrame:
    """`summarise`, with no interval around the preference accuracy of a method of which nothing is trained.

    It holds no output likelier than before, so that all pairs are ties, whatever the pairs.
    """
    summary = summarise(values, descriptions.metric)
    of_pairs = summary[summary["metric"] == ACCURACY]
    for row, system, method in of_pairs[["system", "method"]].itertuples():
        if not method_settings(config, system, method).trainings(method):
            summary.loc[row, ["ci_low", "ci_high"]] = summary.loc[row, "mean"]
    return summary


def gather(
    experiment: str, config: Config, evaluations: list[Path], descriptions: Descriptions, output: Path, figures: Path
) -> None:
    """Write the table of an experiment, its comparisons and its figure.

    The comparisons, `{experiment}_comparisons.csv` beside `output`, are of the first highlighted method with its main
    baseline at each point of the grid that has both.

    output: the table: `experiment, variant, system, method`, a column for each axis of the grid, then those of
    `metrics.csv`.
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
    summary = summary_of(values, config, descriptions).rename(columns={"method": "variant"}).merge(points, on="variant")
    summary = summary.rename(columns={"rival": "method"}).assign(experiment=experiment)
    first = ["experiment", "variant", "system", "method", *axes]
    write_table(summary[[*first, *(column for column in summary.columns if column not in first)]], output)
    shown = descriptions.system(str(values["system"].iloc[0]))
    pair = [*shown.subjects[:1], *([shown.rival] if shown.rival else [])]
    differences = []
    for _, group in points.groupby(axes, sort=False):
        named = dict(zip(group["rival"], group["variant"], strict=True))
        if len(pair) == 2 and set(pair) <= set(named):
            both = values[values["method"].isin([named[method] for method in pair])]
            both = both.replace({"method": {variant: method for method, variant in named.items()}})
            found = compare(both, pair[1:], pair[:1], descriptions.metric)
            differences.append(found.assign(**{axis: group[axis].iloc[0] for axis in axes}))
    if differences:
        write_table(pd.concat(differences, ignore_index=True), output.with_name(f"{experiment}_comparisons.csv"))
    write_experiment_figure(experiment, output, descriptions, figures)
