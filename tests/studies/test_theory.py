"""The theory experiment: which method reaches perfect alignment, on systems small enough for a test."""

import math
from typing import Any

import pandas as pd
import pytest
import torch

from sysdpo.applications.tabular import build
from sysdpo.base.errors import UserError
from sysdpo.studies.settings import Theory
from sysdpo.studies.theory import COLUMNS, Run, covering, likeliest, make_loss, train
from sysdpo.studies.theory import run as run_study

FACTORY = "sysdpo.studies.settings:Theory"


def run(section: dict[str, Any]) -> pd.DataFrame:
    """The study's table by the settings in this section."""
    return run_study(Theory.read({"factory": FACTORY} | section, "studies.theory"))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return run({"steps": 150, "systems": ["fan_in"], "shared": [False], "coverages": [1.0, 0.6]})


def final(table: pd.DataFrame, method: str, **which: float) -> float:
    rows = table[(table["method"] == method) & (table["step"] == table["step"].max())]
    for name, value in which.items():
        rows = rows[rows[name].astype(float).sub(value).abs() < 1e-9]
    assert len(rows) == 1
    return float(rows["max_gap"].iloc[0])


def test_direct_and_sampling_over_everything_align_perfectly_and_separate_does_not(table: pd.DataFrame) -> None:
    assert final(table, "direct", coverage=1) < 1e-3
    assert final(table, "sampling", candidates=4) < 1e-3
    assert final(table, "separate") > 1e-2


def test_fewer_intermediates_than_all_leave_a_gap(table: pd.DataFrame) -> None:
    partial = table[table["coverage"] < 0.999]
    assert set(partial["method"]) == {"direct", "sampling"}
    assert partial.loc[partial["step"] == 150, "max_gap"].min() > 1e-2


def test_where_the_tilt_cannot_be_formed_only_the_marginal_objective_gets_there() -> None:
    settings = Theory(factory=FACTORY, steps=150)
    everything = torch.ones(build("entangled").shape[:2], dtype=torch.bool)
    by_pairs = train(build("entangled"), Run("direct", everything), settings)
    by_outputs = train(build("entangled"), Run("sampling", candidates=4), settings)
    assert by_pairs[-1]["max_gap"] > 1e-2
    assert by_outputs[-1]["max_gap"] < 1e-3


def test_every_run_starts_at_the_largest_preference_and_is_recorded_log_spaced(table: pd.DataFrame) -> None:
    assert list(table.columns) == list(COLUMNS)
    rows = table[table["step"] == 0]
    expected = build("fan_in").preferences().logit().abs().max().item()
    assert rows["max_gap"].tolist() == pytest.approx([expected] * len(rows))
    assert rows.loc[rows["method"] != "separate", "loss"].tolist() == pytest.approx([math.log(2)] * (len(rows) - 1))
    assert (table["mean_gap"] <= table["max_gap"]).all()
    steps = sorted(table["step"].unique())
    assert steps[:4] == [0, 1, 2, 3]
    assert steps[-1] == 150
    assert 15 < len(steps) <= 31
    assert table.loc[table["method"] != "sampling", "candidates"].isna().all()


def test_a_loss_by_hand() -> None:
    """Of two trajectories in the data, the one's log-ratio raised by ln 3: mean of the two ordered pairs by P*."""
    system = build("fan_in")
    seen = torch.zeros(system.shape[:2], dtype=torch.bool)
    seen[0, 0] = True
    beta = 0.5
    with torch.no_grad():
        system.tables["merge"].logits[0, 0] += 1.0
    policy, reference = system.log_joints()
    ratio = (policy - reference)[0, 0].detach()
    wins = system.preferences()[0]
    pairs = [(i, j) for i in range(4) for j in range(4)]
    expected = sum(wins[i, j] * -math.log(1 / (1 + math.exp(-beta * (ratio[i] - ratio[j])))) for i, j in pairs)
    total = sum(wins[i, j] for i, j in pairs)
    assert make_loss(system, "direct", seen, beta)().item() == pytest.approx((expected / total).item(), abs=1e-12)


def test_the_likeliest_and_the_covering_assignments() -> None:
    log_probs = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], dtype=torch.float64).log()
    assert likeliest(log_probs, 1).tolist() == [[True, False, False], [False, True, False]]
    assert likeliest(log_probs, 3).all()
    assert covering(log_probs, 0.8).tolist() == [[True, False, True], [False, True, False]]
    assert covering(log_probs, 1.0).all()
    assert covering(log_probs, 0.05).sum(-1).tolist() == [1, 1]


def test_the_table_is_complete_and_the_same_again() -> None:
    section = {"steps": 5, "systems": ["chain"], "shared": [True], "coverages": [1.0]}
    table = run(section)
    assert table.equals(run(section))
    assert list(table.columns) == list(COLUMNS)
    assert set(table["method"]) == {"direct", "separate", "sampling"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"systems": ["ring"]}, "ring"),
        ({"beta": 0}, "beta"),
        ({"coverages": [1.5]}, "coverages"),
        ({"steps": "many"}, "steps"),
        ({"systems": []}, "should be not empty"),
        ({"epochs": 3}, "epochs"),
    ],
)
def test_wrong_settings_are_named(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(values)
