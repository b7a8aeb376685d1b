from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sysdpo.base.errors import UserError
from sysdpo.report.study import STUDIES, write_study_figure
from sysdpo.studies.shown.gradients import gradients_figure, gradients_sentences, gradients_table


@pytest.fixture
def table(made_up_results: Path) -> pd.DataFrame:
    return pd.read_csv(made_up_results / "studies" / "gradients.csv")


def test_a_line_a_generator_and_none_for_the_spread_of_what_is_deterministic(table: pd.DataFrame) -> None:
    figure = gradients_figure(table)
    bias, _, spread, _ = figure.axes
    drawn = {
        tuple(line.get_ydata()) for line in bias.lines if len(line.get_xdata()) == 4 and line.get_linestyle() != "None"
    }
    assert drawn == {(1.0, 0.5, 0.25, 0.125), (2.0, 1.0, 0.5, 0.25), (0.0, 0.0, 0.0, 0.0)}
    (line,) = spread.lines
    assert line.get_ydata() == pytest.approx(np.array([1, 2, 4, 8]) ** -0.5)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        "diverse beam, truncated, diversity 0", "diverse beam, truncated, diversity 1", "ancestral, importance",
    ]  # fmt: skip


def test_sentences_name_the_least_and_the_most_biased(table: pd.DataFrame) -> None:
    first, second = gradients_sentences(table)
    assert first.startswith(
        "Chain, 8 candidates: the least bias is 0.0 % of the gradient's norm (ancestral, importance)"
    )
    assert "the largest 25 % (diverse beam, truncated, diversity 1)" in first
    assert "of those that draw, ancestral, importance spreads least, by 35 %" in first
    assert second.startswith("Two stage qa")
    beams = table[table["diversity"] == 0].assign(bias=0.5)
    assert gradients_sentences(beams)[0] == (
        "Chain, 8 candidates: the least bias is 50 % of the gradient's norm (diverse beam, truncated)."
    )


def test_summary_is_at_the_most_candidates_the_least_biased_first(table: pd.DataFrame) -> None:
    summary = gradients_table(table)
    assert set(summary["K"]) == {8}
    assert summary["system"].tolist() == ["chain"] * 3 + ["two_stage_qa"] * 3
    assert summary["bias"].tolist() == [0.0, 0.125, 0.25] * 2


def test_missing_column_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="no column 'spread'"):
        gradients_figure(table.drop(columns="spread"))


def test_unknown_study_and_missing_table_leave_nothing(made_up_results: Path, tmp_path: Path) -> None:
    csv = made_up_results / "studies" / "gradients.csv"
    with pytest.raises(UserError, match=r"--study: 'gradient' should be one of .*'theory'"):
        write_study_figure("gradient", csv, tmp_path)
    with pytest.raises(UserError, match=r"nothing.csv' should be a .csv table"):
        write_study_figure("gradients", tmp_path / "nothing.csv", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_known_studies_have_words_of_their_own(made_up_figures: Path) -> None:
    assert {path.name for path in made_up_figures.glob("study_*")} == {
        f"study_{study}.{kind}" for study in ("gradients", "coverage") for kind in ("png", "svg")
    }
    assert all(study.title and study.intro and study.caption for study in STUDIES.values())
