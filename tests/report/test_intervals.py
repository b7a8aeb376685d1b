"""Intervals against arithmetic by hand, against textbooks, and against simulated runs whose truth is known."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sysdpo.report.intervals import (
    INTERVALS,
    LEAST_OF_RESIDUAL,
    PSEUDO_EVENT,
    by_content,
    crossed_spread,
    mean_interval,
    proportion_difference_interval,
    proportion_interval,
    t_quantile,
)

KINDS = list(INTERVALS)


def distinct(number: int) -> NDArray[np.integer]:
    """Every prompt is its own content."""
    return np.arange(number)


@pytest.mark.parametrize(
    ("freedom", "printed"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (10, 2.2281), (30, 2.0423), (120, 1.9799)],
)
def test_quantiles_are_those_of_the_printed_tables(freedom: int, printed: float) -> None:
    assert t_quantile(freedom) == pytest.approx(printed, abs=5e-5)


def test_quantiles_where_they_have_a_closed_form() -> None:
    assert t_quantile(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-9)
    assert t_quantile(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-9)
    assert t_quantile(1e6) == pytest.approx(1.959964, abs=1e-5)
    both = np.array([[1.0, 2.5], [40.0, 7.25]])
    assert t_quantile(both).tolist() == [[float(t_quantile(one)) for one in row] for row in both]
    assert (np.diff(t_quantile(np.linspace(1, 50, 500))) < 0).all()


def test_analysis_of_variance_by_hand() -> None:
    values = np.array([[1.0, 2.0, 6.0], [3.0, 6.0, 6.0]])
    # Grand mean 4; seeds 3 and 5; contents 2, 4, 6; what is left is 0, −1, 1 and 0, 1, −1.
    mean, variance, freedom = crossed_spread(values, distinct(3))
    seed, content, rest = 3 * (1 + 1) / 1, 2 * (4 + 0 + 4) / 2, 4 / 2
    assert mean == 4
    assert variance == pytest.approx((seed + content - rest) / 6)
    assert freedom == pytest.approx((seed + content - rest) ** 2 / (seed**2 / 1 + content**2 / 2 + rest**2 / 2))


def test_the_formulas_that_the_page_prints_are_those_that_are_computed() -> None:
    page = (Path(__file__).parents[2] / "docs/statistics.md").read_text()
    formulas = dict(re.findall(r"^    (V|ν) = (.*)$", page, re.MULTILINE))
    as_python = {
        name: re.sub(r"\(S C\)|SC\b", "(S * C)", formula)
        .replace("²", " ** 2")
        .replace("−", "-")
        .replace("·", "*")
        .replace(")(", ") * (")
        for name, formula in formulas.items()
    }
    S, C = 4, 7
    values = np.random.default_rng(0).normal(size=(S, C)) + np.arange(S)[:, None] / 2
    mean, of_seed, of_content = values.mean(), values.mean(1), values.mean(0)
    rest = values - of_seed[:, None] - of_content + mean
    known = {
        "S": S,
        "C": C,
        "MS_seed": C * ((of_seed - mean) ** 2).sum() / (S - 1),
        "MS_content": S * ((of_content - mean) ** 2).sum() / (C - 1),
        "MS_residual": (rest**2).sum() / ((S - 1) * (C - 1)),
    }
    known["V"] = eval(as_python["V"], {}, known)
    spread = crossed_spread(values, distinct(C))
    assert spread.variance == pytest.approx(known["V"])
    assert spread.freedom == pytest.approx(eval(as_python["ν"], {}, known))


def test_one_prompt_is_the_textbooks_one_sample_t() -> None:
    # Seeds' values 4, 6, 5, 9, 6: mean 6, standard deviation √3.5; t of 4 degrees of freedom is 2.7764.
    mean, low, high = mean_interval(np.array([[4.0], [6.0], [5.0], [9.0], [6.0]]), distinct(1))
    assert mean == 6
    assert high - mean == pytest.approx(mean - low) == pytest.approx(2.776445 * math.sqrt(3.5 / 5), rel=1e-6)


def test_one_seed_is_a_t_over_contents() -> None:
    mean, _, high = mean_interval(np.array([[4.0, 6.0, 5.0, 9.0, 6.0]]), distinct(5))
    assert (mean, high - mean) == (6, pytest.approx(2.776445 * math.sqrt(3.5 / 5), rel=1e-6))


def test_seeds_that_differ_and_contents_that_do_not_are_a_t_over_seed_means() -> None:
    seeds = np.array([1.0, 2.0, 6.0, 3.0])
    interval = mean_interval(seeds[:, None] + np.zeros((4, 50)), distinct(50))
    expected = mean_interval(seeds[:, None], distinct(1))
    assert np.array(interval) == pytest.approx(np.array(expected))


def test_never_surer_than_the_seeds_own_means() -> None:
    values = np.random.default_rng(0).normal(size=(500, 4, 6))
    _, variance, freedom = crossed_spread(values, distinct(6))
    assert (variance >= values.mean(-1).var(-1, ddof=1) / 4 * (1 - 1e-12)).all()
    assert (freedom >= 3).all()


def test_seeds_that_agree_by_chance_do_not_make_a_mean_certain() -> None:
    # Both seeds have one half right, but not the same half: neither seeds' nor contents' means differ.
    values = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    _, variance, freedom = crossed_spread(values, distinct(4))
    # The residuals are ±1/2, 8 of them, on 3 degrees of freedom.
    assert (variance, freedom) == (pytest.approx(LEAST_OF_RESIDUAL * (8 / 4 / 3) / 8), 1)


def test_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="one value"):
        mean_interval(np.ones((1, 1)), distinct(1))


def test_contents_of_many_prompts_weigh_more() -> None:
    values, contents = np.array([[1.0, 2.0, 6.0, 7.0], [3.0, 4.0, 4.0, 9.0]]), np.array([0, 0, 0, 1])
    assert by_content(values, contents).tolist() == [[9 / 4, 7 / 4], [11 / 4, 9 / 4]]
    # Prompts' means are 2, 3, 5, 8 and 4.5 altogether: content 0 adds −3.5/4 to it, content 1 the opposite; the weights
    # are 3/4 and 1/4, so 1 − Σ w² is 3/8, and (Σ w²)²/Σ w⁴ is 50/41, less than two.
    one = values.mean(axis=0, keepdims=True)
    mean, variance, freedom = crossed_spread(one, contents)
    assert (mean, variance, freedom) == (4.5, pytest.approx(2 * (3.5 / 4) ** 2 / (3 / 8)), 1)


@pytest.mark.parametrize("deviation", [0.0, 0.3])
def test_contents_of_unequal_size_are_covered_too(deviation: float) -> None:
    rng = np.random.default_rng(0)
    contents = np.repeat(distinct(38), [*[13] * 13, *[1] * 25])
    values = deviation * rng.normal(size=(2000, 5, 1)) + rng.normal(size=(2000, 5, len(contents)))
    values += rng.normal(size=(2000, 1, 38))[..., contents]
    _, low, high = mean_interval(values, contents)
    assert 0.93 <= ((low <= 0) & (high >= 0)).mean() <= 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_that_repeat_a_content_add_nothing(kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 2, (4, 12)).astype(float)
    once = INTERVALS[kind](values, distinct(12))
    again = INTERVALS[kind](np.repeat(values, 3, axis=1), np.repeat(distinct(12), 3))
    # The pseudo-event is one of three times as many values.
    assert np.array(again) == pytest.approx(np.array(once), rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_batches_do_not_matter(kind: str) -> None:
    rng = np.random.default_rng(0)
    values, contents = rng.integers(0, 2, (7, 4, 12)).astype(float), np.repeat(distinct(6), 2)
    all_at_once = np.array(INTERVALS[kind](values, contents))
    alone = np.array([INTERVALS[kind](one, contents) for one in values]).T
    assert all_at_once == pytest.approx(alone, rel=1e-12)
    order = rng.permutation(12)
    shuffled = INTERVALS[kind](values[:, ::-1][..., order], contents[order])
    assert np.array(shuffled) == pytest.approx(all_at_once, rel=1e-9)


def test_wilson_by_hand_where_seeds_and_contents_are_independent_draws() -> None:
    # One seed, 16 prompts, 12 of them right: a simple random sample, but for the variance's 15 instead of 16.
    values = np.repeat([[1.0] * 12 + [0.0] * 4], 1, axis=0)
    pseudo = PSEUDO_EVENT / 16
    count = (0.75 * 0.25 + pseudo) / (0.75 * 0.25 / 15 + pseudo / 16)
    t = float(t_quantile(15))
    middle = (0.75 + t**2 / (2 * count)) / (1 + t**2 / count)
    half = t * math.sqrt(0.75 * 0.25 / count + t**2 / (4 * count**2)) / (1 + t**2 / count)
    assert proportion_interval(values, distinct(16)) == pytest.approx((0.75, middle - half, middle + half))


def test_proportions_that_never_vary_are_not_certain() -> None:
    # As if the seeds were all alike: 0 of 100 wrong, and t of 4 degrees of freedom.
    mean, low, high = proportion_interval(np.ones((5, 100)), distinct(100))
    assert (mean, high) == (1, 1)
    assert low == pytest.approx(100 / (100 + 2.776445**2), rel=1e-6)
    assert proportion_interval(np.zeros((5, 100)), distinct(100)).high == pytest.approx(1 - low)
    mean, low, high = proportion_difference_interval(np.zeros((5, 100)), distinct(100))
    assert (mean, low) == (0, -high)
    assert high == pytest.approx(2.776445 * math.sqrt(2) / 102, rel=1e-6)


def test_proportions_stay_where_they_can_be() -> None:
    rng = np.random.default_rng(0)
    for rate in (0.02, 0.5, 0.98):
        first, second = (rng.random((300, 3, 20)) < rate for _ in range(2))
        mean, low, high = proportion_interval(first.astype(float), distinct(20))
        assert ((low >= 0) & (low <= mean) & (mean <= high) & (high <= 1) & (low < high)).all()
        mean, low, high = proportion_difference_interval(first * 1.0 - second, distinct(20))
        assert ((low >= -1) & (low <= mean) & (mean <= high) & (high <= 1) & (low < high)).all()


@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("number", [100, 25])
def test_a_95_percent_interval_holds_the_truth_in_95_of_100_runs(deviation: float, number: int) -> None:
    # Seeds of no, of as much and of nine times the variance that 100 prompts add to a seed's mean.
    rng = np.random.default_rng(0)
    contents = np.repeat(distinct(number), 100 // number)
    values = deviation * rng.normal(size=(2000, 5, 1)) + 0.7**0.5 * rng.normal(size=(2000, 5, 100))
    values += 0.3**0.5 * rng.normal(size=(2000, 1, number))[..., contents]
    _, low, high = mean_interval(values, contents)
    assert 0.93 <= ((low <= 0) & (high >= 0)).mean() <= 0.97


def test_taking_prompts_of_one_content_for_independent_covers_too_little() -> None:
    rng = np.random.default_rng(0)
    contents = np.repeat(distinct(10), 10)
    values = rng.normal(size=(500, 5, 100)) + rng.normal(size=(500, 1, 10))[..., contents]
    ignored, known = (mean_interval(values, numbers) for numbers in (distinct(100), contents))
    assert ((ignored.low <= 0) & (ignored.high >= 0)).mean() < 0.6
    assert ((known.low <= 0) & (known.high >= 0)).mean() > 0.92
