import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from described import committed, made_up

from sysdpo.base.errors import UserError
from sysdpo.method.description import Metric
from sysdpo.report.descriptions import Shown
from sysdpo.report.tables import build_table, latex, markdown, write_tables

SYSTEM = "progressive_images"
SHOWN = committed().system(SYSTEM)


def named_system(metric: str) -> Shown:
    """Whose only metric has this name."""
    return replace(made_up("s").system("s"), metrics={metric: Metric(metric, True)})


def rows(system: str, values: dict[str, float], metric: str = "order_consistency") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"system": system, "method": method, "metric": metric, "mean": mean, "ci_low": mean - 0.1,
             "ci_high": mean + 0.1, "n_prompts": 200, "n_contents": 200, "n_seeds": 3, "higher_is_better": True}
            for method, mean in values.items()
        ]
    )  # fmt: skip


def differences(system: str, low: float, middle: float, high: float) -> pd.DataFrame:
    row = {"system": system, "metric": "order_consistency", "method": "direct", "baseline": "before"}
    numbers = {"difference": middle, "ci_low": low, "ci_high": high, "n_prompts": 200, "n_contents": 200, "n_seeds": 3}
    return pd.DataFrame([{**row, **numbers}])


def test_best_trained_method_is_bold_and_untrained_and_controls_are_not() -> None:
    means = {"before": 0.32, "best_of_n": 0.9, "likelihood": 0.95, "separate": 0.5, "direct": 0.641}
    table = build_table(SHOWN, rows(SYSTEM, means), differences(SYSTEM, 0.2, 0.321, 0.4))
    assert [row.method for row in table.rows if row.cells[0].best] == ["direct"]
    text = markdown(table)
    assert "| SysDPO-Direct | **64.1** [54.1, 74.1] | – |" in text
    assert "| Before alignment | 32.0 [22.0, 42.0] | +32.1 [+20.0, +40.0] |" in text


def test_methods_that_print_alike_are_both_bold() -> None:
    table = build_table(SHOWN, rows(SYSTEM, {"separate": 0.6412, "direct": 0.6408}), differences(SYSTEM, 0, 0, 0))
    assert all(row.cells[0].best for row in table.rows)


def test_caption_says_what_the_interval_is() -> None:
    table = build_table(SHOWN, rows(SYSTEM, {"direct": 0.5}), differences(SYSTEM, 0, 0, 0))
    assert "200 held-out prompts and 3 seeds" in table.caption
    assert "95 % t interval for new seeds and new prompts" in table.caption


def test_caption_counts_contents_that_prompts_share_and_claims_less_of_one_seed() -> None:
    metrics = rows(SYSTEM, {"direct": 0.5}).assign(n_contents=50, n_seeds=1)
    caption = build_table(SHOWN, metrics, differences(SYSTEM, 0, 0, 0)).caption
    assert "200 held-out prompts on 50 contents and 1 seed (" in caption
    assert "95 % t interval for new prompts (" in caption


def test_both_methods_of_the_paper_are_compared_with_every_row(made_up_results: Path) -> None:
    name = "two_stage_qa"
    metrics, comparisons = (pd.read_csv(made_up_results / f"{table}.csv") for table in ("metrics", "comparisons"))
    metrics, comparisons = metrics[metrics["system"] == name], comparisons[comparisons["system"] == name]
    table = build_table(committed().system(name), metrics, comparisons)
    assert table.headings[-2:] == ["Direct − this, accuracy (points)", "Sampling − this, accuracy (points)"]
    rows = {row.method: row for row in table.rows}
    assert rows["only_first"].label == "Only the first model"
    pairs = comparisons[comparisons["metric"] == "accuracy"].set_index(["method", "baseline"])["difference"]
    for column, subject in ((-2, "direct"), (-1, "sampling")):
        assert rows["separate"].cells[column].mean == f"{100 * pairs[subject, 'separate']:+.1f}".replace("-", "−")
        assert rows[subject].cells[column].mean == ""
    length = table.headings.index("Length (tokens)")
    assert not any(row.cells[length].best for row in table.rows)
    assert "Sampling − this: SysDPO-Sampling minus the row's method" in table.caption


def test_latex_escapes_what_latex_would_read_otherwise() -> None:
    text = latex(build_table(SHOWN, rows(SYSTEM, {"direct": 0.5}), differences(SYSTEM, 0, 0, 0)), SYSTEM)
    assert r"\shortstack{Order consistency\\(\%)}" in text
    assert "−" not in text
    named = rows("s", {"direct": 0.5}, metric=r"A\b{c}$d^e~f#g%h&i<j>")
    text = latex(build_table(named_system(r"A\b{c}$d^e~f#g%h&i<j>"), named, differences("s", 0, 0, 0)), "s")
    expected = r"A\textbackslash{}b\{c\}\$d\textasciicircum{}e\textasciitilde{}f\#g\%h\&i\textless{}j\textgreater{}"
    assert expected in text


def test_markdown_keeps_a_name_inside_its_cell() -> None:
    named = rows("s", {"direct": 0.5}, metric="a|b`c<img>\nd")
    first, *_ = markdown(build_table(named_system("a|b`c<img>\nd"), named, differences("s", 0, 0, 0))).splitlines()
    assert first.startswith(r"| Method | a\|b\`c\<img> d |")


def test_a_metric_that_is_not_described_is_refused() -> None:
    with pytest.raises(UserError, match="Metric 'cuteness' of 'progressive_images' is not described"):
        build_table(SHOWN, rows(SYSTEM, {"direct": 0.5}, metric="cuteness"), differences(SYSTEM, 0, 0, 0))


def test_three_files_are_written_and_csv_holds_stored_units(made_up_results: Path, tmp_path: Path) -> None:
    output = tmp_path / f"{SYSTEM}.md"
    write_tables(SYSTEM, made_up_results / "metrics.csv", made_up_results / "comparisons.csv", SHOWN, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{SYSTEM}.{kind}" for kind in ("csv", "md", "tex")]
    written = pd.read_csv(output.with_suffix(".csv")).set_index("method")
    metrics = pd.read_csv(made_up_results / "metrics.csv").set_index(["system", "method", "metric"])
    assert written.loc["direct", "order_consistency"] == metrics.loc[(SYSTEM, "direct", "order_consistency"), "mean"]
    assert pd.isna(written.loc["direct", "direct_minus_this_order_consistency"])


def test_missing_column_leaves_no_file(made_up_results: Path, tmp_path: Path) -> None:
    pd.read_csv(made_up_results / "metrics.csv").drop(columns="ci_low").to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(UserError, match=r"lacks the columns \['ci_low'\]"):
        write_tables(
            SYSTEM, tmp_path / "m.csv", made_up_results / "comparisons.csv", SHOWN, tmp_path / "tables" / "t.md"
        )
    assert not (tmp_path / "tables").exists()


def test_system_that_was_not_measured_is_named(made_up_results: Path, tmp_path: Path) -> None:
    shutil.copy(made_up_results / "metrics.csv", tmp_path)
    with pytest.raises(UserError, match="no rows for system 'debate'; it has progressive_images, two_stage_qa"):
        write_tables("debate", tmp_path / "metrics.csv", made_up_results / "comparisons.csv", SHOWN, tmp_path / "t.md")
