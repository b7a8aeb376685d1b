"""The page's sentences say what the intervals say, whichever way they fall."""

from pathlib import Path

import pandas as pd
import pytest
from described import made_up

from sysdpo.method.method_words import RIVAL
from sysdpo.report import sentences
from sysdpo.report.run import Run

METRIC = "accuracy"
MEANS = {"before": 0.3, "only_first": 0.4, "separate": 0.6, "direct": 0.7, "sampling": 0.7, "single_sample": 0.5}
GAINS = (("sampling", "before", 0.4, 0.3, 0.5), ("direct", "before", 0.3, 0.2, 0.4))


def run(*differences: tuple[str, str, float, float, float], without: str = "", **described: object) -> Run:
    """Methods of these means, and these differences with their intervals."""
    rows = [
        {"method": m, "metric": METRIC, "mean": v, "ci_low": v - 0.02, "ci_high": v + 0.02}
        for m, v in MEANS.items()
        if m != without
    ]
    columns = ["method", "baseline", "difference", "ci_low", "ci_high"]
    shown = made_up("qa", **{"headline": (METRIC,)} | described).system("qa")
    return Run(shown, pd.DataFrame(rows), pd.DataFrame(differences, columns=columns).assign(metric=METRIC), Path())


def sentences_of(results: Run, number: int) -> list[str]:
    """The sentences of one of the sections."""
    return sentences.sections(results)[number][1]


@pytest.mark.parametrize(
    ("difference", "low", "high", "sentence"),
    [
        (0.1, 0.05, 0.15, "is better than separate DPO, by +10.0 points (95 % interval +5.0 to +15.0 points)"),
        (-0.1, -0.15, -0.05, "is worse than separate DPO, by −10.0 points"),
        (0.01, -0.02, 0.04, "cannot be told apart on this evidence: the difference is +1.0 points"),
    ],
)
def test_a_subject_against_its_main_baseline(difference: float, low: float, high: float, sentence: str) -> None:
    results = run(("direct", "separate", difference, low, high))
    assert sentence in sentences_of(results, 0)[0]
    assert results.shown.method("separate").kind == RIVAL


def test_verdict_knows_which_way_is_better() -> None:
    metrics = made_up("qa").system("qa").metrics
    assert sentences.Difference(metrics["accuracy"], 0.1, 0.05, 0.2).verdict == "better"
    assert sentences.Difference(metrics["length"], 0.1, 0.05, 0.2).verdict == "worse"
    assert sentences.Difference(metrics["accuracy"], 0.1, 0.0, 0.2).verdict == "tie"


def test_main_result_gives_both_numbers_and_the_interval() -> None:
    text = " ".join(sentences.main_result(run(*GAINS, ("direct", "separate", 0.0, -0.1, 0.1))))
    assert "improves: from 30.0 % before alignment to 70.0 % under SysDPO-Direct" in text
    assert "difference +30.0 points, 95 % interval +20.0 to +40.0 points" in text
    assert "is better than the system before alignment; it cannot be told apart from separate DPO" in text


def test_a_check_comes_with_the_interval_of_its_change() -> None:
    (sentence,) = sentences.checks(run(*GAINS, checks=(METRIC,)))
    assert "Accuracy (share of right answers; higher is better): 30.0 before, 70.0 % under SysDPO-Direct" in sentence
    assert sentence.endswith("(95 % interval of the difference +20.0 to +40.0 points).")


def test_there_is_no_sentence_on_what_was_not_measured() -> None:
    assert sentences.sections(run(GAINS[1], without="sampling")) == []
    assert sentences.checks(run(*GAINS)) == []


def test_the_change_comes_with_its_interval_and_no_ratio_of_gains() -> None:
    sentence = sentences_of(run(*GAINS), 0)[0]
    assert sentence.endswith("30.0 % before, 70.0 % after (+40.0 points, 95 % interval +30.0 to +50.0 points).")
    assert "Without seeing anything between input and output, SysDPO-Sampling improves accuracy" in sentence
    assert "SysDPO-Direct" not in sentence


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.5, "is better than"), (-0.1, 0.5, "cannot be told apart from"), (-0.5, -0.1, "is worse than")],
)
def test_words_follow_the_interval(low: float, high: float, words: str) -> None:
    middle = (low + high) / 2
    _, sentence = sentences_of(run(*GAINS, ("sampling", "only_first", middle, low, high)), 0)
    start = f"It {words} the first model trained alone ({100 * middle:+.1f} points"
    assert sentence.startswith(start.replace("-", "−"))


def test_a_method_with_a_remark_is_judged_by_itself() -> None:
    sentence = sentences_of(run(*GAINS, ("sampling", "single_sample", 0.2, 0.1, 0.3)), 0)[-1]
    assert "its factor p(y|x) cancels between chosen and rejected" in sentence
    assert "SysDPO-Sampling is better than single sample (+20.0 points" in sentence


def test_difference_that_was_taken_the_other_way_is_turned_round() -> None:
    gap = sentences.difference(run(("direct", "sampling", 0.1, -0.05, 0.2)), "sampling", "direct", METRIC)
    assert gap is not None
    assert (gap.value, gap.low, gap.high) == (-0.1, -0.2, 0.05)
