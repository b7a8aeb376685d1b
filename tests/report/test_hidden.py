"""What is said of SysDPO-Sampling follows the means and the intervals, whichever way they fall."""

import pandas as pd
import pytest

from sysdpo.report.hidden import change_under_sampling, difference, sampling_against_all
from sysdpo.report.views import system_view

METRIC = "accuracy"
MEANS = {"before": 0.3, "only_first": 0.4, "direct": 0.8, "sampling": 0.7, "single_sample": 0.5}


def metrics() -> pd.DataFrame:
    rows = [{"method": m, "metric": METRIC, "mean": v, "ci_low": v - 0.1, "ci_high": v + 0.1} for m, v in MEANS.items()]
    return pd.DataFrame(rows)


def comparisons(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    columns = ["method", "baseline", "difference", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns).assign(metric=METRIC)


GAINS = (("sampling", "before", 0.4, 0.3, 0.5), ("direct", "before", 0.5, 0.4, 0.6))


def test_the_change_is_said_with_its_interval_and_no_ratio_of_gains() -> None:
    said = change_under_sampling(METRIC, metrics(), comparisons(*GAINS))
    assert said.endswith("30.0 % before, 70.0 % after (+40.0 points, 95 % interval +30.0 to +50.0 points).")
    assert "SysDPO-Sampling improves accuracy" in said
    assert "SysDPO-Direct" not in said


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.5, "is better than"), (-0.1, 0.5, "cannot be told apart from"), (-0.5, -0.1, "is worse than")],
)
def test_words_follow_the_interval(low: float, high: float, words: str) -> None:
    middle = (low + high) / 2
    table = comparisons(*GAINS, ("sampling", "only_first", middle, low, high))
    _, said = sampling_against_all(system_view("two_stage_qa", [METRIC]), metrics(), table)
    assert said.startswith(f"It {words} the first model trained alone ({100 * middle:+.1f} points".replace("-", "−"))


def test_single_sample_is_explained_and_judged_by_itself() -> None:
    table = comparisons(*GAINS, ("sampling", "single_sample", 0.2, 0.1, 0.3))
    said = sampling_against_all(system_view("two_stage_qa", [METRIC]), metrics(), table)[-1]
    assert "its factor p(y|x) cancels between chosen and rejected" in said
    assert "SysDPO-Sampling is better than single sample (+20.0 points" in said


def test_difference_that_was_taken_the_other_way_is_turned_round() -> None:
    row = difference(comparisons(("direct", "sampling", 0.1, -0.05, 0.2)), "sampling", "direct", METRIC)
    assert row is not None
    assert row[["difference", "ci_low", "ci_high"]].tolist() == [-0.1, -0.2, 0.05]
    assert (row["method"], row["baseline"]) == ("sampling", "direct")


def test_nothing_is_said_of_a_system_without_the_method() -> None:
    table = comparisons(GAINS[1])
    there = metrics()
    there = there[there["method"] != "sampling"]
    assert sampling_against_all(system_view("two_stage_qa", [METRIC]), there, table) == []
