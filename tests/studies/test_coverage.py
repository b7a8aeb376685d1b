"""The coverage study: its runs are what it says they are, and its numbers are those of the page on statistics."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.studies.coverage import COLUMNS, KINDS, Kind, _draw, seed_share
from sysdpo.studies.coverage import run as run_study
from sysdpo.studies.settings import Coverage
from sysdpo.studies.shown.coverage import coverage_ranges, coverage_table

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"replicates": 50, "prompts": 40, "contents": [40, 10], "seeds": [1, 5], "seed_variances": [0.0, 1.0]}
NAMES = [f"{kind.name} {kind.rates}" for kind in KINDS]

FACTORY = "sysdpo.studies.settings:Coverage"


def run(section: dict[str, Any]) -> pd.DataFrame:
    """The study's table by the settings in this section."""
    return run_study(Coverage.read({"factory": FACTORY} | section, "studies.coverage"))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return run(QUICK)


def test_a_row_a_case(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    assert len(table) == len(KINDS) * 2 * 2 * 2
    assert table["coverage"].between(0, 1).all()
    assert (table["width"] > 0).all()
    assert table["coverage_se"].to_numpy() == pytest.approx((table["coverage"] * (1 - table["coverage"]) / 50) ** 0.5)


def test_the_same_settings_give_the_same_numbers(table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(run(QUICK), table)
    alone = run(QUICK | {"contents": [10], "seed_variances": [1.0]})
    rows = table[(table["contents"] == 10) & (table["seed_variance"] == 1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, rows)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_simulated_runs_have_the_mean_and_the_variances_that_are_named(kind: Kind) -> None:
    prompts, contents, variance = 20, 10, 1.0
    share = seed_share(kind, variance, prompts, contents)
    numbers = np.repeat(np.arange(contents), prompts // contents)
    one, two = (
        _draw(kind, r, numbers, (20_000, 2), numpy_generator("test", name)) for name, r in (("a", 0.0), ("b", share))
    )
    assert two.mean() == pytest.approx(kind.truth, abs=0.012)
    # Of seeds that do not differ, the variance of a seed's mean is what prompts add.
    added = one[:, 0].mean(-1).var()
    # Two seeds have their contents in common: prompts 0 and 19 are of different ones, so only a seed links them.
    linked = np.mean((two[:, :, :2].mean(-1) - kind.truth) * (two[:, :, 18:].mean(-1) - kind.truth))
    assert linked == pytest.approx(variance * added, rel=0.25)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"studies.coverage.contents: \[30\] should divide the number of prompts, 200"):
        run({"contents": [30]})
    with pytest.raises(UserError, match=r"studies.coverage.seeds: \[\] should be not empty"):
        run({"seeds": []})
    with pytest.raises(UserError, match=r"seed_variances: 1000\.0 is more than a mean score can vary"):
        run(QUICK | {"seed_variances": [1000.0]})


def committed() -> pd.DataFrame:
    return pd.read_csv(ROOT / "results" / "studies" / "coverage.csv")


def test_the_committed_numbers_are_of_the_configuration() -> None:
    settings = yaml.safe_load((ROOT / "config.yaml").read_text())["studies"]["coverage"]
    numbers = committed()
    for column, setting in (("seeds", "seeds"), ("contents", "contents"), ("seed_variance", "seed_variances")):
        assert numbers[column].drop_duplicates().tolist() == settings[setting]
    assert len(numbers) == len(KINDS) * len(settings["seeds"]) * len(settings["contents"]) * 4
    # A fresh computation of a few cases gives the same: the rows are independent of each other.
    few = {key: value for key, value in settings.items() if key != "factory"}
    fresh = run(few | {"contents": [50], "seed_variances": [5.0], "seeds": [5, 11], "replicates": 250})
    rows = numbers[(numbers["contents"] == 50) & (numbers["seed_variance"] == 5) & numbers["seeds"].isin([5, 11])]
    error = (250**-0.5) * 0.5
    assert fresh["coverage"].to_numpy() == pytest.approx(rows["coverage"].to_numpy(), abs=2 * error)


@pytest.mark.parametrize("shown", [coverage_table, coverage_ranges])
def test_the_page_on_statistics_has_the_committed_numbers(shown) -> None:
    page = (ROOT / "docs" / "statistics.md").read_text()
    for row in shown(committed()).itertuples(index=False):
        cells = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row]
        assert f"| {' | '.join(cells)} |" in page


def test_what_the_page_on_statistics_claims() -> None:
    numbers = committed()
    usual = numbers[(numbers["seeds"] == 5) & (numbers["seed_variance"] <= 5)]
    extreme = (usual["rate"] > 0.95) & ~(usual["rival_rate"] <= 0.95)
    assert usual.loc[~extreme, "coverage"].between(0.93, 0.97).all()
    assert usual.loc[extreme, "coverage"].between(0.91, 0.99).all()
    assert usual.loc[extreme & (usual["seed_variance"] <= 1), "coverage"].between(0.93, 0.98).all()
