"""Pages whose blocks repeat a run's tables."""

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from described import made_up
from described import save as save_descriptions

from sysdpo.base.errors import UserError
from sysdpo.report.claim_file import Claim, Claims
from sysdpo.report.claims import evaluate
from sysdpo.report.quotes import quoted
from sysdpo.run.cli import main

TOY = made_up("toy")


def claim_table(low: float, high: float) -> pd.DataFrame:
    """One claim, evaluated: the accuracy of `direct` minus that of `separate` lies from `low` to `high`."""
    line = {"system": "toy", "metric": "accuracy", "method": "direct", "baseline": "separate"}
    measured = pd.DataFrame([line | {"difference": (low + high) / 2, "ci_low": low, "ci_high": high, "n_contents": 7}])
    claims = Claims((Claim(id="one", sign="above", **line),), {})
    return pd.DataFrame(map(asdict, evaluate(claims, measured.iloc[:0], measured)))


def save(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def test_a_page_repeats_the_claims_of_its_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "claims.csv", claim_table(0.1, 0.3))
    save(tmp_path / "more/claims.csv", claim_table(-0.1, 0.3))
    end = "<!-- end of claims -->"
    page = f"# Page\n\n<!-- claims: toy -->\nformer\n{end}\n\nBetween.\n<!-- claims: more/toy -->\n{end}\nEnd.\n"
    now = quoted(page, tmp_path, TOY, "page")
    assert "former" not in now
    assert now.index("| **holds** | `one` |") < now.index("Between.") < now.index("| undecided | `one` |")
    assert now.endswith(f"{end}\nEnd.\n")
    assert quoted(now, tmp_path, TOY, "page") == now

    (tmp_path / "page.md").write_text(page)
    (tmp_path / "config.yaml").write_text("systems: {}")
    options = ["--config", str(tmp_path / "config.yaml"), "--results", str(tmp_path)]
    options += ["--descriptions", str(save_descriptions(TOY, tmp_path / "descriptions.json"))]
    assert main(["quote", *options, "--output", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == now
    for wrong, message in (
        (page.replace(end, ""), "the block 'claims: toy' should end with the line '<!-- end of claims -->'"),
        (page.replace("more/toy", "more/toys"), "there are no claims about 'toys' in"),
    ):
        (tmp_path / "page.md").write_text(wrong)
        assert main(["quote", *options, "--output", str(tmp_path / "page.md")]) == 2
        assert message in capsys.readouterr().err
        assert (tmp_path / "page.md").read_text() == wrong


def test_a_page_repeats_the_means_of_the_metrics_that_a_block_names(tmp_path: Path) -> None:
    shared = {"system": "toy", "n_prompts": 9, "n_contents": 9, "n_seeds": 5, "higher_is_better": True}
    rows = [
        ("direct", "accuracy", 0.7),
        ("before", "accuracy", 0.25),
        ("direct", "length", 3.0),
        ("a|b", "accuracy", 0.5),
    ]
    means = [
        shared | {"method": method, "metric": metric, "mean": mean, "ci_low": mean - 0.1, "ci_high": mean + 0.1}
        for method, metric, mean in rows
    ]
    save(tmp_path / "run" / "metrics.csv", pd.DataFrame(means))
    page = "Numbers.\n<!-- table: run/toy: accuracy length -->\nformer\n<!-- end of table -->\nEnd.\n"
    assert quoted(page, tmp_path, TOY, "page").splitlines() == [
        "Numbers.",
        "<!-- table: run/toy: accuracy length -->",
        "| method | Accuracy (%) | Length (tokens) |",
        "|---|---:|---:|",
        "| Before alignment | 25.0 [15.0, 35.0] | – |",
        "| **SysDPO-Direct** | 70.0 [60.0, 80.0] | 3.0 [2.9, 3.1] |",
        "| a\\|b | 50.0 [40.0, 60.0] | – |",
        "<!-- end of table -->",
        "End.",
    ]
    with pytest.raises(UserError, match="page: the block 'table: run/toy: loudness' should name metrics among"):
        quoted(page.replace("accuracy length", "loudness"), tmp_path, TOY, "page")


def test_a_page_says_which_claims_another_run_does_not_confirm(tmp_path: Path) -> None:
    save(tmp_path / "claims.csv", claim_table(0.1, 0.3))
    save(tmp_path / "more/claims.csv", claim_table(-0.1, 0.3))
    page = "<!-- confirmed: . by more -->\nformer\n<!-- end of confirmed -->\n"
    assert quoted(page, tmp_path, TOY, "page").splitlines()[1:-1] == [
        "0 of 1 claims have the same verdict in both runs.",
        "",
        "| claim | here | there |",
        "|---|---|---|",
        "| `one` | holds, +20.0 points [+10.0, +30.0] | undecided, +10.0 points [−10.0, +30.0] |",
    ]
    alike = quoted(page.replace("more", "."), tmp_path, TOY, "page")
    assert alike.splitlines()[1:-1] == ["1 of 1 claims have the same verdict in both runs."]
    save(tmp_path / "more/claims.csv", claim_table(-0.1, 0.3).assign(id="two"))
    for wrong, message in (
        (page, "one alone has 'one'"),
        (page.replace(" by ", " "), "should name two folders, 'A by B'"),
    ):
        with pytest.raises(UserError, match=message):
            quoted(wrong, tmp_path, TOY, "page")
