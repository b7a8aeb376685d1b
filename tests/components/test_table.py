"""Tables: probabilities against hand numbers, exact draws, and what is kept when saved."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from sysdpo.base.errors import UserError
from sysdpo.components.table import Table

CONDITIONS = [("sun",), ("rain",)]
VALUES = ["walk", "bus", 3]
PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.9, 0.0]], dtype=torch.float64)


@pytest.fixture
def table() -> Table:
    return Table.from_probabilities(CONDITIONS, VALUES, PROBABILITIES)


def test_log_probs_are_the_table_s_own_and_double(table: Table) -> None:
    policy, reference = table.log_probs([("rain",), ("sun",), ("sun",)], ["bus", 3, "walk"], draw=[0, 0, 0])
    assert policy.tolist() == pytest.approx([math.log(0.9), math.log(0.25), math.log(0.5)], abs=1e-12)
    assert torch.equal(policy, reference)
    assert policy.dtype == torch.float64
    assert policy.requires_grad
    assert not reference.requires_grad


def test_logits_need_no_normalisation_and_train_away_from_the_reference() -> None:
    table = Table([("x",)], ["a", "b"], torch.tensor([[3.0, 3.0]]))
    with torch.no_grad():
        table.logits += torch.tensor([[math.log(3.0), 0.0]])
    policy, reference = table.log_probs([("x",), ("x",)], ["a", "b"], draw=[0, 0])
    assert policy.exp().tolist() == pytest.approx([0.75, 0.25], abs=1e-6)
    assert reference.exp().tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    assert policy.dtype == torch.float32
    # d log p(a) / d logits = (1 − p(a), −p(b))
    policy[0].backward()
    assert table.logits.grad.tolist()[0] == pytest.approx([0.25, -0.25], abs=1e-6)


def test_an_impossible_value_stays_impossible_and_harms_no_gradient(table: Table) -> None:
    optimizer = torch.optim.Adam(table.trainable_parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (-table.log_probs([("rain",)], ["walk"], draw=[0]).policy).sum().backward()
        optimizer.step()
    probabilities = table.logits.detach().softmax(-1)
    assert probabilities[1, 2] == 0
    assert probabilities[1, 0] > 0.1
    assert probabilities[0].tolist() == pytest.approx([0.5, 0.25, 0.25])


@pytest.mark.parametrize(("temperature", "shares"), [(1.0, [0.5, 0.25, 0.25]), (0.5, [2 / 3, 1 / 6, 1 / 6])])
def test_frequencies_match_the_probabilities(table: Table, temperature: float, shares: list[float]) -> None:
    table.temperature = temperature  # at 0.5 every probability is squared: 4 : 1 : 1
    count = 4000
    drawn = Counter(table.sample([("sun",)] * count, seeds=range(count)))
    for value, share in zip(VALUES, shares, strict=True):
        assert drawn[value] / count == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / count))


def test_a_row_depends_on_its_seed_and_condition_alone(table: Table) -> None:
    seeds = list(range(50))
    alone = [table.sample([("sun",)], seeds=[seed])[0] for seed in seeds]
    among = table.sample([("rain",), ("sun",)] * 50, seeds=[each for seed in seeds for each in (99, seed)])
    assert among[1::2] == alone
    assert len(set(alone)) == 3
    assert 3 not in table.sample([("rain",)] * 200, seeds=range(200))


def test_temperature_zero_is_greedy(table: Table) -> None:
    table.temperature = 0
    assert table.sample([("rain",), ("sun",)], seeds=[1, 2]) == ["bus", "walk"]


def test_decoder_takes_one_step_in_which_every_value_ends(table: Table) -> None:
    decoder = table.decoder([("rain",), ("sun",)])
    start = decoder.start()
    assert start.dtype == torch.float32
    assert start.exp().tolist() == [pytest.approx(row, abs=1e-6) for row in ([0.1, 0.9, 0.0], [0.5, 0.25, 0.25])]
    assert (decoder.ends, decoder.max_length) == (frozenset({0, 1, 2}), 1)
    assert [decoder.value([token]) for token in range(3)] == VALUES
    assert decoder.advance(torch.tensor([1]), torch.tensor([0])).exp().sum() == 0


def test_rebased_the_policy_is_the_reference(table: Table) -> None:
    with torch.no_grad():
        table.logits[0, 0] += 1.0
    table.rebase_reference()
    policy, reference = table.log_probs([("sun",)], ["bus"], draw=[0])
    assert policy.item() == reference.item() != pytest.approx(math.log(0.25))


def test_a_saved_table_is_read_back_exactly(table: Table, tmp_path: Path) -> None:
    with torch.no_grad():
        table.logits[0] += torch.tensor([0.3, -1.0, 2.0])
    table.save(tmp_path / "adapter")
    fresh = Table.from_probabilities(CONDITIONS, VALUES, PROBABILITIES)
    parameter = fresh.trainable_parameters()[0]
    fresh.load(tmp_path / "adapter")
    assert torch.equal(parameter, table.logits)
    assert fresh.log_probs([("sun",)], ["walk"], draw=[0]).reference.item() == pytest.approx(math.log(0.5))
    with pytest.raises(UserError, match="conditions and values"):
        Table.from_probabilities(CONDITIONS, ["walk", "bus", 4], PROBABILITIES).load(tmp_path / "adapter")
    with pytest.raises(UserError, match="cannot be read"):
        fresh.load(tmp_path / "nothing")


def test_unknown_names_and_wrong_numbers_are_the_user_s_errors(table: Table) -> None:
    with pytest.raises(UserError, match=r"condition: \('snow',\)"):
        table.sample([("snow",)], seeds=[0])
    with pytest.raises(UserError, match="value: 'car'"):
        table.log_probs([("sun",)], ["car"], draw=[0])
    with pytest.raises(UserError, match="sum to 1"):
        Table.from_probabilities(CONDITIONS, VALUES, PROBABILITIES * 0.9)
    with pytest.raises(UserError, match="shape"):
        Table(CONDITIONS, VALUES[:2], PROBABILITIES.log())
    with pytest.raises(UserError, match="repetitions"):
        Table([("sun",), ("sun",)], VALUES, torch.zeros(2, 3))
    with pytest.raises(UserError, match="possible"):
        Table([("sun",)], ["a", "b"], torch.full((1, 2), -torch.inf))
