"""Of every table each fault is refused with the file and the row; the order of rows never matters."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sysdpo.base.errors import UserError
from sysdpo.base.tables import (
    check_comparisons,
    check_metrics,
    check_pairs,
    check_prompts,
    check_scores,
    check_trajectories,
    check_values,
    contents_of,
)

PROMPTS = pd.DataFrame(
    {"prompt_id": ["p0", "p1"], "split": ["train", "test"], "text": ["a", "b"], "picture": [[1, 2], [3]]}
)
TRAJECTORIES = pd.DataFrame(
    {
        "trajectory_id": ["p0/0", "p0/1", "p1/0", "p1/1"],
        "prompt_id": ["p0", "p0", "p1", "p1"],
        "sample": [0, 1, 0, 1],
        "answer": ["w", "x", "y", "z"],
    }
)
SCORES = TRAJECTORIES[["trajectory_id", "prompt_id"]].assign(score=[0.0, 1.0, 2.0, 3.0])
PAIRS = pd.DataFrame(
    {
        "pair_id": ["a", "b"],
        "prompt_id": ["p0", "p1"],
        "chosen_id": ["p0/1", "p1/1"],
        "rejected_id": ["p0/0", "p1/0"],
        "margin": [1.0, 1.0],
    }
)
VALUES = pd.DataFrame({"prompt_id": ["p0", "p0"], "content": "c", "sample": [0, 1], "metric": "accuracy"})
VALUES["value"] = [0.0, 1.0]
METRICS = pd.DataFrame(
    {"system": "s", "method": ["a", "b"], "metric": "accuracy", "mean": 0.5, "ci_low": 0.0, "ci_high": 1.0}
)
COMPARISONS = pd.DataFrame(
    {"system": "s", "metric": "m", "method": ["a", "b"], "baseline": "c", "difference": 1.0, "ci_low": 0, "ci_high": 1}
)
CHECKS = {
    "prompts": (PROMPTS, lambda table: check_prompts(table, "'file'", ("picture",))),
    "prompts with contents": (PROMPTS.assign(content="c"), lambda table: check_prompts(table, "'file'", ("picture",))),
    "trajectories": (TRAJECTORIES, lambda table: check_trajectories(table, "'file'", PROMPTS, ("answer", "hidden"))),
    "scores": (SCORES, lambda table: check_scores(table, "'file'", TRAJECTORIES)),
    "pairs": (PAIRS, lambda table: check_pairs(table, "'file'", TRAJECTORIES)),
    "values": (VALUES, lambda table: check_values(table, "'file'")),
    "metrics": (METRICS, lambda table: check_metrics(table, "'file'")),
    "comparisons": (COMPARISONS, lambda table: check_comparisons(table, "'file'")),
}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_good_table_is_taken_in_any_order(kind: str) -> None:
    table, check = CHECKS[kind]
    check(table)
    check(table.iloc[::-1])
    check(table.assign(more=1))


@pytest.mark.parametrize("kind", CHECKS)
def test_a_missing_column_is_named(kind: str) -> None:
    table, check = CHECKS[kind]
    optional = ("answer", "content") if kind == "prompts with contents" else ("answer",)
    needed = [column for column in table if column not in optional]
    for column in needed:
        with pytest.raises(UserError, match=rf"'file' lacks the columns \['{column}'\]"):
            check(table.drop(columns=column))


@pytest.mark.parametrize(
    ("kind", "column", "row", "value", "message"),
    [
        ("prompts", "prompt_id", 1, "p0", "row 1 repeats another row's prompt_id (prompt_id 'p0')"),
        ("prompts", "prompt_id", 1, None, "row 1 has no prompt_id that is a text or a whole number"),
        ("prompts", "prompt_id", 0, np.nan, "row 0 has no prompt_id"),
        (
            "prompts",
            "split",
            1,
            "tset",
            "row 1 has a split that is none of ['train', 'validation', 'test'] (split",
        ),
        ("prompts", "text", 1, None, "row 1 has no text (prompt_id 'p1')"),
        ("prompts", "picture", 0, None, "row 0 has no picture (prompt_id 'p0')"),
        ("prompts with contents", "content", 1, None, "row 1 has no content that is a text or a whole number"),
        ("prompts with contents", "content", 1, 0.5, "row 1 has no content that is a text or a whole number"),
        ("trajectories", "trajectory_id", 2, "p0/0", "row 2 repeats another row's trajectory_id"),
        ("trajectories", "trajectory_id", 2, None, "row 2 has no trajectory_id"),
        ("trajectories", "trajectory_id", 2, ["list"], "row 2 has no trajectory_id that is a text"),
        ("trajectories", "prompt_id", 3, "p9", "row 3 is of a prompt that is not among those given"),
        ("trajectories", "sample", 1, 0, "row 1 repeats another row's prompt_id, sample (prompt_id 'p0', sample 0)"),
        ("trajectories", "sample", 1, None, "row 1 has no sample"),
        ("trajectories", "answer", 1, None, "row 1 has no answer (trajectory_id 'p0/1')"),
        ("scores", "trajectory_id", 1, "p0/0", "row 1 repeats another row's trajectory_id"),
        ("scores", "trajectory_id", 1, "p9/0", "row 1 is of a trajectory that is not among those given"),
        ("scores", "trajectory_id", 1, None, "row 1 has no trajectory_id"),
        ("scores", "prompt_id", 2, "p0", "row 2 is of another prompt than its trajectory (trajectory_id 'p1/0'"),
        ("scores", "score", 3, np.nan, "row 3 has a score that is no finite number (trajectory_id 'p1/1', score nan)"),
        ("scores", "score", 3, np.inf, "row 3 has a score that is no finite number (trajectory_id 'p1/1', score inf)"),
        ("scores", "score", 3, None, "row 3 has a score that is no finite number"),
        (
            "scores",
            "score",
            3,
            "high",
            "row 3 has a score that is no finite number (trajectory_id 'p1/1', score 'high'",
        ),
        ("scores", "score", 3, [1.0], "row 3 has a score that is no finite number"),
        ("pairs", "pair_id", 1, "a", "row 1 repeats another row's pair_id"),
        ("pairs", "chosen_id", 0, "p9/0", "row 0 has a chosen_id that is not among the trajectories (pair_id 'a'"),
        ("pairs", "rejected_id", 1, None, "row 1 has a rejected_id that is not among the trajectories"),
        ("pairs", "rejected_id", 0, "p1/0", "row 0 has a rejected_id that is of another prompt (pair_id 'a'"),
        ("pairs", "prompt_id", 0, "p1", "row 0 has a chosen_id that is of another prompt"),
        ("pairs", "rejected_id", 0, "p0/1", "row 0 pairs a trajectory with itself (pair_id 'a', chosen_id 'p0/1')"),
        ("pairs", "margin", 1, np.nan, "row 1 has a margin that is no finite number"),
        ("values", "sample", 1, 0, "row 1 repeats another row's prompt_id, sample, metric"),
        ("values", "metric", 1, None, "row 1 has no metric"),
        ("values", "content", 1, None, "row 1 has no content that is a text or a whole number"),
        ("values", "content", 1, "d", "row 1 has another content than its prompt has elsewhere (prompt_id 'p0', cont"),
        ("values", "value", 1, -np.inf, "row 1 has a value that is no finite number (prompt_id 'p0', sample 1,"),
        ("metrics", "method", 1, "a", "row 1 repeats another row's system, method, metric"),
        ("metrics", "mean", 1, np.nan, "row 1 has a mean that is no finite number"),
        ("metrics", "ci_low", 0, np.inf, "row 0 has a ci_low that is no finite number"),
        ("comparisons", "method", 1, "a", "row 1 repeats another row's system, metric, method, baseline"),
        ("comparisons", "difference", 1, np.nan, "row 1 has a difference that is no finite number"),
    ],
)
def test_each_fault_is_refused_with_its_row(kind: str, column: str, row: int, value: Any, message: str) -> None:
    table, check = CHECKS[kind]
    spoilt = table.astype({column: object})
    spoilt.at[row, column] = value
    with pytest.raises(UserError) as error:
        check(spoilt)
    assert str(error.value).startswith(f"'file': {message}")
    assert "\n" not in str(error.value)


def test_more_faults_of_a_kind_are_counted() -> None:
    with pytest.raises(UserError, match=r"row 0 has a score that .*; so do 3 more$"):
        check_scores(SCORES.assign(score=np.nan), "'file'")


def test_scores_come_in_the_order_of_the_trajectories(tmp_path: Path) -> None:
    shuffled = SCORES.sample(frac=1.0, random_state=1)
    assert shuffled["trajectory_id"].tolist() != SCORES["trajectory_id"].tolist()
    pd.testing.assert_frame_equal(check_scores(shuffled, "'file'", TRAJECTORIES), SCORES)


def test_a_trajectory_without_a_score_is_named() -> None:
    with pytest.raises(UserError, match=r"'file': the trajectory 'p0/1' has none; each should have one; so do 1 more"):
        check_scores(SCORES.iloc[[0, 2]], "'file'", TRAJECTORIES)


def test_a_prompt_without_a_content_is_its_own() -> None:
    assert contents_of(PROMPTS).to_dict() == {"p0": "p0", "p1": "p1"}
    assert contents_of(PROMPTS.assign(content=[7, 7])).to_dict() == {"p0": "7", "p1": "7"}
