"""The page's sentences say what the intervals say, whichever way they fall."""

import pandas as pd
import pytest

from sysdpo.report import story
from sysdpo.report.views import system_view

METRIC = "order_consistency"


def tables(difference: float, low: float, high: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    metrics = pd.DataFrame(
        [
            {"method": method, "metric": METRIC, "mean": mean, "ci_low": mean - 0.02, "ci_high": mean + 0.02}
            for method, mean in {"before": 0.3, "separate": 0.6, "direct": 0.6 + difference}.items()
        ]
    )
    comparisons = pd.DataFrame(
        [
            {
                "metric": METRIC,
                "method": "direct",
                "baseline": name,
                "difference": d,
                "ci_low": lo,
                "ci_high": hi,
            }
            for name, d, lo, hi in (("separate", difference, low, high), ("before", 0.3, 0.2, 0.4))
        ]
    )
    return metrics, comparisons


@pytest.mark.parametrize(
    ("difference", "low", "high", "said"),
    [
        (
            0.1,
            0.05,
            0.15,
            "is better than separate DPO, by +10.0 points (95 % interval +5.0 to +15.0 points)",
        ),
        (-0.1, -0.15, -0.05, "is worse than separate DPO, by −10.0 points"),
        (0.01, -0.02, 0.04, "cannot be told apart on this evidence: the difference is +1.0 points"),
    ],
)
def test_direct_against_separate(difference: float, low: float, high: float, said: str) -> None:
    metrics, comparisons = tables(difference, low, high)
    view = system_view("progressive_images", metrics["metric"])
    sentences = story.direct_against_separate(view, metrics, comparisons)
    assert said in " ".join(sentences)


def test_verdict_knows_which_way_is_better() -> None:
    row = pd.Series({"difference": 0.1, "ci_low": 0.05, "ci_high": 0.2})
    assert story.verdict(row, True) == "better"
    assert story.verdict(row, False) == "worse"
    assert story.verdict(pd.Series({"difference": 0.1, "ci_low": 0.0, "ci_high": 0.2}), True) == "tie"


def test_main_result_gives_both_numbers_and_the_interval() -> None:
    metrics, comparisons = tables(0.0, -0.1, 0.1)
    view = system_view("progressive_images", metrics["metric"])
    text = " ".join(story.main_result(view, metrics, comparisons))
    assert "improves: from 30.0 % before alignment to 60.0 % under SysDPO-Direct" in text
    assert "difference +30.0 points, 95 % interval +20.0 to +40.0 points" in text
    assert "is better than the system before alignment; it cannot be told apart from separate DPO" in text


def test_a_check_comes_with_the_interval_of_its_change() -> None:
    metrics, comparisons = (table.replace(METRIC, "well_formed") for table in tables(0.0, -0.1, 0.1))
    view = system_view("progressive_images", metrics["metric"])
    (said,) = story.checks(view, metrics, comparisons)
    assert "30.0 before, 60.0 % under SysDPO-Direct" in said
    assert said.endswith("(95 % interval of the difference +20.0 to +40.0 points).")


def test_nothing_is_said_of_what_was_not_measured() -> None:
    metrics, comparisons = tables(0.0, -0.1, 0.1)
    view = system_view("progressive_images", metrics["metric"])
    without = comparisons[comparisons["baseline"] != "separate"]
    assert story.direct_against_separate(view, metrics, without) == []
    assert story.checks(view, metrics, comparisons) == []
