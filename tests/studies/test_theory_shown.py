"""The theory experiment's figure, table and sentences, from a made-up table."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sysdpo.base.errors import UserError
from sysdpo.report.style import save
from sysdpo.studies.shown.theory import COLUMNS, final, sentences, theory_figure, theory_table

STEPS = (0, 1, 3, 10, 30)


def made_up_run(system: str, shared: bool, method: str, end: float, coverage: float = 1.0, **which: object) -> list:
    """From a gap of 2 down, or up, to `end`."""
    gaps = np.geomspace(2, end, len(STEPS))
    fixed = {"system": system, "shared": shared, "method": method, "coverage": coverage, "refreshed": False}
    return [
        {**fixed, "candidates": np.nan, **which, "step": step, "max_gap": gap, "mean_gap": gap / 2, "loss": gap}
        for step, gap in zip(STEPS, gaps, strict=True)
    ]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = []
    for system, end in (("chain", 1e-6), ("entangled", 0.25)):
        for shared in (False, True):
            rows += made_up_run(system, shared, "direct", end)
            rows += made_up_run(system, shared, "direct", 0.3, coverage=0.6)
            rows += made_up_run(system, shared, "separate", 0.5)
            rows += made_up_run(system, shared, "sampling", 0.4, coverage=0.7, candidates=1)
            rows += made_up_run(system, shared, "sampling", 0.2, coverage=0.7, candidates=1, refreshed=True)
            rows += made_up_run(system, shared, "sampling", 2e-12, candidates=2)
    return pd.DataFrame(rows)


def test_the_last_step_of_every_run_is_its_end(table: pd.DataFrame) -> None:
    end = final(table.sample(frac=1, random_state=0))
    assert len(end) == len(table) / len(STEPS)
    assert set(end["step"]) == {30}


def test_the_table_has_a_row_a_system_and_a_column_a_method(table: pd.DataFrame) -> None:
    summary = theory_table(table).set_index("system")
    assert list(summary.index) == ["Chain", "Chain, shared", "Entangled fan-in", "Entangled fan-in, shared"]
    chain = summary.loc["Chain"]
    assert chain.to_dict() == pytest.approx(
        {
            "separate": 0.5,
            "direct": 1e-6,
            "direct, least coverage": 0.3,
            "sampling, K = all": 2e-12,
            "sampling, K = half": 0.4,
            "sampling, K = half, chosen anew": 0.2,
        }
    )
    assert summary.loc["Entangled fan-in", "direct"] == pytest.approx(0.25)


def test_what_did_not_run_is_empty(table: pd.DataFrame) -> None:
    direct = table[(table["method"] == "direct") & ~table["shared"]]
    summary = theory_table(direct)
    assert summary["direct"].notna().all()
    assert summary[["separate", "sampling, K = all", "sampling, K = half"]].isna().all(axis=None)
    assert any("did not run" in sentence for sentence in sentences(direct))
    assert len(theory_figure(direct).axes) == 2 * 4


def test_sentences_follow_from_the_numbers(table: pd.DataFrame) -> None:
    direct, sampling, separate, coverage, candidates = sentences(table)
    assert "on 2 of 4 systems (Chain, Chain, shared), there at most 1e−6; not on Entangled fan-in (0.25)," in direct
    assert "on 4 of 4 systems, there at most 2e−12." in sampling
    assert "on 0 of 4 systems; not on Chain (0.5)" in separate
    assert "60 to 60 %" in coverage
    assert "0 of 4 runs" in coverage
    assert "smaller gap in 4 of these, a larger one in 0, the same in 0" in candidates
    alike = sentences(table.assign(max_gap=table["max_gap"].where(table["method"] != "separate", 1e-6)))
    assert "does what direct does on Chain, Chain, shared: one model" in alike[3]
    worse = table.assign(max_gap=table["max_gap"].where(table["method"] != "direct", 0.7))
    assert "on 0 of 4 systems" in sentences(worse)[0]


def test_the_figure_shows_every_system_and_the_same_bytes_again(table: pd.DataFrame, tmp_path: Path) -> None:
    figure = theory_figure(table)
    assert len(figure.axes) == 2 * (1 + 2 + 2)
    drawn = [line.get_ydata() for axes in figure.axes[2:] for line in axes.get_lines()]
    assert min(np.min(values) for values in drawn if len(values)) == pytest.approx(1e-8)
    few = table[(table["system"] == "entangled") & table["shared"]]
    for name in ("first", "second"):
        save(theory_figure(few), tmp_path / name, "theory")
    for kind in ("png", "svg"):
        first, second = (tmp_path / name / f"theory.{kind}" for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    svg = (tmp_path / "first" / "theory.svg").read_text()
    for text in ("Entangled fan-in", "cannot form the optimum", "SysDPO-Direct", "two nodes sharing one model"):
        assert text in svg


def test_an_unknown_system_is_drawn_under_its_name(table: pd.DataFrame) -> None:
    figure = theory_figure(table[table["system"] == "chain"].assign(system="two_rings"))
    assert figure.axes[0].get_title(loc="left") == "Two rings"


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(table: pd.DataFrame, column: str) -> None:
    for shown in (theory_figure, theory_table, sentences):
        with pytest.raises(UserError, match=f"'{column}'"):
            shown(table.drop(columns=column))


def test_drawing_needs_no_torch() -> None:
    code = "import sys, sysdpo.studies.shown.theory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
