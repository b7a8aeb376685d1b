"""Candidates that are drawn, against exact frequencies and probabilities."""

import math
from collections import Counter
from itertools import product

import pytest
from table_decoder import TableDecoder
from tiny_models import perturb

from sysdpo.components.language import LanguageModel
from sysdpo.method.candidates import CandidateSettings, propose

A, B, END = 0, 1, 2
CONDITIONS = [("cat",), ("big red cat runs",), ("dog sleeps",), ("small blue dog sleeps big red cat",)]
THREE = {(): [0.5, 0.3, 0.2], (A,): [0.2, 0.5, 0.3], (B,): [0.7, 0.1, 0.2]}


def distribution(steps: dict, weigh) -> dict[tuple[int, ...], float]:
    """Exact probabilities of all values of at most two tokens, each step's reweighed."""
    first = weigh(steps[()])
    values = {(END,): first[END]}
    for one, two in product((A, B), (A, B, END)):
        values[one, two] = first[one] * weigh(steps[one,])[two]
    return values


def tempered(temperature: float):
    def weigh(row: list[float]) -> list[float]:
        powers = [each ** (1 / temperature) for each in row]
        return [each / sum(powers) for each in powers]

    return weigh


def nucleus(top_p: float):
    def weigh(row: list[float]) -> list[float]:
        ranked = sorted(row, reverse=True)
        size = next(size for size in range(1, len(row) + 1) if sum(ranked[:size]) >= top_p - 1e-12)
        return [each / sum(ranked[:size]) if each >= ranked[size - 1] else 0.0 for each in row]

    return weigh


@pytest.mark.parametrize(
    ("settings", "weigh"),
    [
        ({"generator": "ancestral", "estimator": "importance"}, tempered(1.0)),
        ({"generator": "ancestral", "estimator": "importance", "temperature": 0.5}, tempered(0.5)),
        ({"generator": "ancestral", "estimator": "importance", "temperature": 2.0}, tempered(2.0)),
        ({"generator": "nucleus", "top_p": 0.6}, nucleus(0.6)),
        ({"generator": "nucleus", "top_p": 1.0}, nucleus(1.0)),
    ],
)
def test_draws_have_the_proposal_s_frequencies_and_log_probs(settings: dict, weigh) -> None:
    expected = distribution(THREE, weigh)
    assert sum(expected.values()) == pytest.approx(1.0)
    # One draw from each of many seeds, and where repeats are kept many from one.
    rows, count = (2000, 1) if settings["generator"] == "nucleus" else (100, 20)
    decoder = TableDecoder([THREE] * rows, ends={END}, max_length=2)
    draws = [
        each for row in propose(decoder, CandidateSettings(count=count, **settings), seeds=range(rows)) for each in row
    ]
    assert len(draws) == 2000
    counts = Counter(each.value for each in draws)
    for value, probability in expected.items():
        error = math.sqrt(2000 * probability * (1 - probability))
        assert abs(counts[value] - 2000 * probability) <= 4 * error  # 0 of what is outside the nucleus
    for each in draws:
        assert math.exp(each.log_prob) == pytest.approx(expected[each.value], rel=1e-5)


def test_repeats_stay_for_importance_and_go_for_a_sum_over_distinct_values() -> None:
    decoder = TableDecoder([THREE] * 3, ends={END}, max_length=2)
    kept, distinct = (
        propose(decoder, CandidateSettings(generator="ancestral", estimator=each, count=30), seeds=[1, 2, 3])
        for each in ("importance", "truncated")
    )
    for draws, firsts in zip(kept, distinct, strict=True):
        assert len(draws) == 30
        assert firsts == list(dict.fromkeys(draws))
        assert len(firsts) < 30
    assert kept[0] != kept[1]


def test_a_language_model_s_draws_are_weighed_right(language: LanguageModel) -> None:
    perturb(language)
    settings = CandidateSettings(generator="ancestral", estimator="importance", count=8)
    draws = propose(language.decoder(CONDITIONS), settings, seeds=[1, 2, 3, 4])
    assert len({len(each.value.tokens) for row in draws for each in row}) > 2
    for condition, row in zip(CONDITIONS, draws, strict=True):
        values = [each.value for each in row]
        expected = language.log_probs([condition] * 8, values, draw=[0] * 8).policy.tolist()
        assert [each.log_prob for each in row] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", [2**32 + 1, 2**64 + 1, 2**200, -1])
def test_every_bit_of_a_seed_counts(seed: int) -> None:
    settings = CandidateSettings(generator="ancestral", estimator="importance", count=40)
    drawn = [
        propose(TableDecoder([THREE], ends={END}, max_length=2), settings, seeds=[each]) for each in (1, seed, seed)
    ]
    assert drawn[0] != drawn[1] == drawn[2]
