"""The gradient's errors, where they are known."""

from typing import Any

import pandas as pd
import pytest
import torch

from sysdpo.base.errors import UserError
from sysdpo.studies.gradients import LANGUAGE, _enumerate
from sysdpo.studies.gradients import run as run_study
from sysdpo.studies.settings import Gradients

FACTORY = "sysdpo.studies.settings:Gradients"


def run(section: dict[str, Any]) -> pd.DataFrame:
    """The study's table by the settings in this section."""
    return run_study(Gradients.read({"factory": FACTORY} | section, "studies.gradients"))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return run({"systems": ["diamond"], "counts": [1, 4, 8, 16], "replicates": 300})


def rows(table: pd.DataFrame, generator: str, estimator: str) -> pd.DataFrame:
    selected = table[(table["generator"] == generator) & (table["estimator"] == estimator)]
    return selected.drop_duplicates("candidates").set_index("candidates")


def test_over_every_intermediate_there_is_no_error(table: pd.DataFrame) -> None:
    for generator in ("beam", "diverse_beam"):
        full = rows(table, generator, "truncated").loc[8]
        assert full[["bias", "spread", "value_bias"]].abs().max() < 1e-6
        assert full["mass"] == pytest.approx(1, abs=1e-6)
    assert table["candidates"].max() == 8  # there are no more


def test_fewer_candidates_cost_bias_and_mass(table: pd.DataFrame) -> None:
    beams = rows(table, "beam", "truncated")
    assert beams["bias"].is_monotonic_decreasing
    assert beams["mass"].is_monotonic_increasing
    assert (beams.loc[[1, 4], "value_bias"] < 0).all()
    draws = rows(table, "ancestral", "importance")
    assert draws["value_bias"].is_monotonic_increasing
    assert (draws["value_bias"] < 0).all()
    assert draws["spread"].is_monotonic_decreasing
    assert draws["bias"].is_monotonic_decreasing


def test_the_exact_rows_are_the_system_s_own() -> None:
    for name in ("diamond", LANGUAGE):
        system, exact = _enumerate(name, Gradients(factory=FACTORY))
        parameters = [weight for component in system.components.values() for weight in component.trainable_parameters()]
        for prompt in exact:
            assert prompt.priors.sum().item() == pytest.approx(1, abs=1e-5)
            assert prompt.gradients.shape == (*prompt.joints.shape, sum(weight.numel() for weight in parameters))
            # A distribution over drafts: the mean of its score is zero where the answer is summed over too.
        if name == "diamond":
            score = sum((prompt.joints.exp()[..., None] * prompt.gradients).sum((0, 1)) for prompt in exact)
            torch.testing.assert_close(score, torch.zeros_like(score), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"systems": ["chian"]}, r"systems.0: 'chian' should be one of"),
        ({"replicates": 1}, "replicates: 1 should be at least 2"),
    ],
)
def test_bad_settings_are_named(section: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(section)
