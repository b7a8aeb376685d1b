"""Settings that ask for what a benchmark does not have are refused before the first job, in one sentence."""

from typing import Any

import coin_system
import pytest

from sysdpo.base.errors import UserError
from sysdpo.method.config import check, check_offer
from sysdpo.method.offer import Offer

DATASET = {"preferences": "dataset"}
SAMPLING = {"objective": "sampling", **DATASET}


def config(offer: Offer, methods: dict[str, Any], **over: Any) -> dict[str, Any]:
    """The factory is an object that makes this offer."""
    coin_system.factory = type("Factory", (), {"offer": offer})()  # type: ignore[attr-defined]
    training = {"learning_rate": {"a": 0.1, "b": 0.1}}
    toy = {"factory": "coin_system:factory", "components": {"a": {}, "b": {}}, "training": training, "methods": methods}
    sampled = {"trajectories": {"samples_per_prompt": 2}, "evaluation": {"samples_per_prompt": 2}}
    return {"systems": {"toy": toy | sampled | over}}


OUTPUTS, WHOLE, SCORE = Offer(False, 1), Offer(False, 2), Offer(True, 0)


@pytest.mark.parametrize(
    ("offer", "row", "sentence"),
    [
        (OUTPUTS, {"objective": "direct", **DATASET}, "methods.m.preferences: 'dataset' has final outputs alone, and "),
        (OUTPUTS, {"objective": "sampling"}, "methods.m.preferences: 'sampled' should be 'dataset', because this sys"),
        (OUTPUTS, {"objective": "none", "best_of": 4}, "methods.m.best_of: 4 should be 1, because this system has no "),
        (SCORE, SAMPLING, "methods.m.preferences: 'dataset' should be 'sampled', because this system's data"),
        (
            SCORE,
            {"objective": "direct", "eval_every": 1, "early_stopping": 2},
            "methods.m.early_stopping: 2 should be null, because this system's data come with no preferences",
        ),
    ],
)
def test_a_row_that_cannot_work_is_refused(offer: Offer, row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        check(config(offer, {"m": row}))
    assert str(error.value).startswith(f"systems.toy.{sentence}")
    assert "\n" not in str(error.value)


def test_ablations_experiments_and_win_rates_are_named_where_they_stand() -> None:
    rows = {"before": {"objective": "none"}, "m": SAMPLING}
    with pytest.raises(UserError, match=r"^systems\.toy\.ablations\.x\.best_of: 2 should be 1"):
        check(config(OUTPUTS, rows, ablations={"x": {"objective": "none", "best_of": 2}}))
    wanted = {"samples_per_prompt": 1, "win_rates_against": ["before"]}
    with pytest.raises(UserError, match=r"^systems\.toy\.evaluation\.win_rates_against: \['before'\] should be empty"):
        check(config(OUTPUTS, rows, evaluation=wanted))
    tried = {"system": "toy", "seeds": [0], "split": "test", "methods": ["m"], "grid": {"objective": ["direct"]}}
    with pytest.raises(UserError, match=r"^experiments\.try: m at .*preferences: 'dataset' has final outputs alone"):
        check(config(OUTPUTS, rows) | {"experiments": {"try": tried}})


@pytest.mark.parametrize(
    ("offer", "row"),
    [
        (OUTPUTS, SAMPLING),
        (WHOLE, {"objective": "direct", **DATASET}),
        (Offer(False, None), {"objective": "direct", **DATASET}),
        (SCORE, {"objective": "direct", "best_of": 4}),
        (Offer(), SAMPLING),
    ],
)
def test_what_works_or_cannot_be_told_passes(offer: Offer, row: dict[str, Any]) -> None:
    check(config(offer, {"m": row}))


def test_an_offer_that_says_nothing_refuses_nothing() -> None:
    check_offer(config(OUTPUTS, {"m": {"objective": "direct"}}), "toy", Offer())
