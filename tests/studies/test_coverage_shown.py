import pandas as pd
import pytest
import studies

from sysdpo.base.errors import UserError
from sysdpo.studies.shown.coverage import coverage_figure, coverage_ranges, coverage_sentences, coverage_table


@pytest.fixture
def table() -> pd.DataFrame:
    """A mean always covered as it should be, a proportion that seeds' differences spoil."""
    return studies.coverage()


def test_a_panel_a_number_of_seeds_and_of_contents_without_one_seed(table: pd.DataFrame) -> None:
    figure = coverage_figure(table)
    titles = [f"{seeds} seeds, {contents} contents" for contents in (40, 10) for seeds in (3, 5)]
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    drawn = {round(float(x), 6) for line in figure.axes[0].lines for x in line.get_xdata()}
    assert {95.0, round(100 * (0.95 - 1 / 6), 6)} <= drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["seed variance 0×", "seed variance 1×"]
    assert len(coverage_figure(table[table["seeds"] == 1]).axes) == 2


def test_summary_is_at_five_seeds_in_percent(table: pd.DataFrame) -> None:
    shown = coverage_table(table).set_index("5 seeds")
    assert shown.loc["proportion, 90 %"].to_dict() == {
        "40 contents, 0×": 95.0, "40 contents, 1×": 85.0, "10 contents, 0×": 95.0, "10 contents, 1×": 85.0,
    }  # fmt: skip
    assert coverage_table(table[table["seeds"] < 5]).columns[0] == "3 seeds"


def test_ranges_are_over_all_kinds(table: pd.DataFrame) -> None:
    ranges = coverage_ranges(table).set_index("seeds")
    assert ranges["10 contents, 1×"].to_dict() == {1: "45.0–95.0", 3: "78.3–95.0", 5: "85.0–95.0"}


def test_sentences_name_the_extremes(table: pd.DataFrame) -> None:
    assert coverage_sentences(table)[1] == (
        "With 5 seeds and a seed variance of 1×, 2 of 4 cases lie between 93 and 97 %; the lowest is 85.0 % "
        "(proportion, 90 %; 40 contents), the highest 95.0 % (mean score; 40 contents)."
    )


def test_missing_column_is_named(table: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="no column 'coverage'"):
        coverage_figure(table.drop(columns="coverage"))
