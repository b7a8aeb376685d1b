"""Who learns from which pairs, and that it does not matter who does."""

import numpy as np
import pandas as pd
import pytest
from coin_system import coins

from sysdpo.base.errors import UserError
from sysdpo.method.intermediates import intermediates_of
from sysdpo.method.pair_batches import PairBatches, shuffled_batches
from sysdpo.method.preferences import as_frame
from sysdpo.method.settings import MethodSettings

SIDES = ("heads", "tails")
PROMPTS = [f"p{row}" for row in range(5)]


def batches_of(process: int = 0, processes: int = 1, **over) -> PairBatches:
    """Five pairs of five prompts; of each the first trajectory is better."""
    variables = {"text": [name for name in PROMPTS for _ in SIDES], "left": SIDES * 5, "right": SIDES * 5}
    frame = as_frame([name for name in PROMPTS for _ in SIDES], [0, 1] * 5, variables)
    chosen, rejected = ([f"{name}/{sample}" for name in PROMPTS] for sample in (0, 1))
    pairs = pd.DataFrame({"prompt_id": PROMPTS, "chosen_id": chosen, "rejected_id": rejected})
    names = ("first", "second")
    rates = {"learning_rate": dict.fromkeys(names, 0.1), "chosen_weight": dict.fromkeys(names, 0.0)}
    settings = MethodSettings(objective="direct", steps=6, batch_size=4, warmup_steps=0, **rates, **over)
    system = coins()
    intermediates = intermediates_of(system, settings)
    shared = {"process": process, "processes": processes}
    return PairBatches(system, intermediates, frame, pairs, settings, list(names), seed=3, number=0, **shared)


def met(updates) -> list[list[tuple[str, int]]]:
    """Of each update the pairs of its micro-batches, as (prompt, draw)."""
    return [[pair for batch in batches for pair in pairs_of(batch)] for batches in updates]


def pairs_of(batch) -> list[tuple[str, int]]:
    _, keys = batch.log_probs.args
    half = len(keys) // 2
    return list(zip(keys[:half], batch.log_probs.keywords["draw"][:half], strict=True))


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_each_batch_and_nothing_else_changes(processes: int) -> None:
    alone = met(batches_of().starting_at())
    shares = [met(batches_of(process, processes).starting_at()) for process in range(processes)]
    assert [[pair for share in shares for pair in share[step]] for step in range(6)] == alone
    assert {len(share[0]) for share in shares} == {4 // processes}


@pytest.mark.parametrize(
    ("size", "weights"), [(1, [0.25] * 4), (3, [0.75, 0.25]), (4, [1.0]), (9, [1.0]), (None, [1.0])]
)
def test_micro_batches_weigh_as_many_pairs_as_they_hold(size: int | None, weights: list[float]) -> None:
    for batches, whole in zip(
        batches_of(micro_batch_size=size).starting_at(), met(batches_of().starting_at()), strict=True
    ):
        assert [batch.weight for batch in batches] == weights
        assert met([batches]) == [whole]


def test_it_goes_on_where_it_was() -> None:
    assert met(batches_of().starting_at(4)) == met(batches_of().starting_at())[4:]


def test_every_pass_meets_every_pair_once_in_another_order() -> None:
    batches = shuffled_batches(5, 3, np.random.default_rng(0))
    places, passes = (np.concatenate(each) for each in zip(*(next(batches) for _ in range(5)), strict=True))
    assert passes.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    orders = places.reshape(3, 5).tolist()
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3, 4]] * 3
    assert orders[0] != orders[1] != orders[2]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size: 4 should be a multiple of the 3 processes"):
        batches_of(0, 3)
