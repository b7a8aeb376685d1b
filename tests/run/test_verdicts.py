"""Runs whose bytes differ are compared by what their intervals say."""

from pathlib import Path

import pandas as pd
import pytest

from sysdpo.base.errors import UserError
from sysdpo.run.cli import main
from sysdpo.run.verdicts import compare_verdicts


def table(path: Path, *intervals: tuple[float, float]) -> Path:
    rows = [
        {"system": "s", "metric": "m", "method": f"a{n}", "baseline": "b", "difference": (low + high) / 2}
        | {"ci_low": low, "ci_high": high, "n_prompts": 10, "n_contents": 10, "n_seeds": 3}
        for n, (low, high) in enumerate(intervals)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_open_and_decided_differ_without_a_contradiction(tmp_path: Path) -> None:
    ours = table(tmp_path / "ours.csv", (1, 3), (-1, 2), (-3, -1), (1, 2))  # the fourth is ours alone
    theirs = table(tmp_path / "theirs.csv", (0.5, 1.5), (0.1, 2), (-2, -1.5))
    said = compare_verdicts(ours, theirs)
    assert said.startswith("2 of 3 verdicts are the same")
    assert "67% of the differences" in said  # 2 is not in [0.5, 1.5]


def test_opposite_verdicts_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = table(tmp_path / "ours.csv", (1, 2), (1, 2)), table(tmp_path / "theirs.csv", (1, 2), (-2, -1))
    (tmp_path / "config.yaml").write_text("systems: {}")
    options = ["--config", str(tmp_path / "config.yaml"), "--comparisons", str(ours), "--committed", str(theirs)]
    assert main(["verdicts", *options]) == 2
    assert "of 2 it contradicts 1, 's m a1 b' the first" in capsys.readouterr().err
    assert main(["verdicts", *options[:-1], str(ours)]) == 0
    assert "2 of 2 verdicts are the same" in capsys.readouterr().out


def test_a_lost_comparison_is_refused(tmp_path: Path) -> None:
    ours, theirs = table(tmp_path / "ours.csv", (1, 2)), table(tmp_path / "theirs.csv", (1, 2), (1, 2), (1, 2))
    with pytest.raises(UserError, match=r"should have the 3 comparisons of '.*'; it lacks 2, 's m a1 b' the first"):
        compare_verdicts(ours, theirs)
