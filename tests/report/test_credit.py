"""Credit: end values worked by hand, and displacement exactly where both log-ratios fall."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from described import made_up

from sysdpo.base.errors import UserError
from sysdpo.report.credit import credit_table, write_credit_table
from sysdpo.report.figures.credit import credit

QA = made_up("two_stage_qa").system("two_stage_qa")


def log(method: str, seed: int, ends: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Twenty updates, all zero but the last two: those average to a component's (chosen, rejected) log-ratio."""
    weights = np.array([0.0] * 18 + [0.5, 1.5])
    columns = {"seed": seed, "method": method, "step": range(20), "loss": 0.7, "margin": 9.9}
    for name, (chosen, rejected) in ends.items():
        columns |= {f"chosen_{name}": chosen * weights, f"rejected_{name}": rejected * weights}
        columns |= {f"margin_{name}": (chosen - rejected) * weights}
    return pd.DataFrame(columns)


@pytest.fixture
def logs() -> pd.DataFrame:
    return pd.concat(
        [
            log("direct", 0, {"first": (2.0, -1.0), "second": (-1.0, -3.0)}),
            log("direct", 1, {"first": (4.0, -1.0), "second": (1.0, -1.0)}),
            log("only_first", 0, {"first": (-1.0, 1.0)}),
        ],
        ignore_index=True,
    )


def test_margins_are_split_over_the_components_at_the_end(logs: pd.DataFrame) -> None:
    table = credit_table(logs, QA).set_index(["method", "component"])
    first, second = table.loc[("direct", "first")], table.loc[("direct", "second")]
    assert (first["margin"], first["margin_low"], first["margin_high"]) == (4.0, 3.0, 5.0)
    assert (second["margin"], second["share"]) == (2.0, pytest.approx(1 / 3))
    assert first["share"] + second["share"] == pytest.approx(1.0)
    assert (first["chosen_log_ratio"], first["rejected_log_ratio"]) == (3.0, -1.0)
    assert (second["rejected_log_ratio_low"], second["rejected_log_ratio_high"]) == (-3.0, -1.0)


def test_displacement_is_that_both_log_ratios_fall(logs: pd.DataFrame) -> None:
    table = credit_table(logs, QA).set_index(["method", "component"])
    # On average the second's chosen log-ratio is 0: not below the reference, though it is at one seed.
    assert table.loc[("direct", "second"), ["displaced", "displaced_seeds", "n_seeds"]].tolist() == ["no", 1, 2]
    fallen = logs.assign(chosen_second=logs["chosen_second"] - 0.1)
    table = credit_table(fallen, QA).set_index(["method", "component"])
    assert table.loc[("direct", "second"), ["displaced", "displaced_seeds", "n_seeds"]].tolist() == ["yes", 1, 2]
    assert table.loc[("direct", "first"), "displaced"] == "no"


def test_no_row_for_what_is_not_trained_and_no_share_of_nothing(logs: pd.DataFrame) -> None:
    table = credit_table(logs, QA)
    alone = table[table["method"] == "only_first"]
    assert alone["component"].tolist() == ["first"]
    assert alone["margin"].item() == -2.0
    assert np.isnan(alone["share"].item())


def test_figure_tints_the_displaced_and_names_the_untrained(logs: pd.DataFrame) -> None:
    fallen = logs.assign(chosen_second=logs["chosen_second"] - 0.1)
    figure = credit(SimpleNamespace(shown=QA, training=lambda: fallen))
    grid = np.array(figure.axes).reshape(3, 2)
    texts = [[[text.get_text() for text in axes.texts] for axes in row] for row in grid]
    assert texts == [[[], []], [[], []], [["not trained"], ["both fall"]]]
    total = grid[0, 1].lines[0].get_ydata()  # the edge of the stack, smoothed over one update
    assert total[-1] == pytest.approx(1.5 * (4.0 + 2.0))


def test_fields_that_are_missing_are_named(logs: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="no field 'chosen_first'"):
        credit_table(logs.drop(columns="chosen_first"), QA)
    with pytest.raises(UserError, match="no field margin_"):
        credit_table(logs[["seed", "method", "step", "loss"]], QA)


def test_table_is_written_from_whatever_was_trained(made_up_results: Path, tmp_path: Path) -> None:
    output = tmp_path / "two_stage_qa_credit.csv"
    write_credit_table(QA, made_up_results / "runs" / "two_stage_qa", output)
    written = pd.read_csv(output).set_index(["method", "component"])
    assert {"only_first", "only_second", "separate", "direct", "sampling", "single_sample"} == set(
        written.index.get_level_values("method")
    )
    assert written.loc[("direct", "second"), "displaced"] == "yes"
    assert written.loc[("direct", "first"), "displaced"] == "no"
    assert written.loc[("sampling", "first"), "margin"] == pytest.approx((36 + 37 + 38 + 39) / 4 / 20)
    with pytest.raises(UserError, match=r"holds no {seed}/{method}/training/training.jsonl; train a method first"):
        write_credit_table(QA, tmp_path, output)
