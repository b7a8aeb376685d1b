"""What `docs/extending.md` prints is run as printed."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from printed import blocks_of, lay_out, run

BLOCKS = blocks_of("docs/extending.md")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(BLOCKS, tmp_path_factory.mktemp("extending"))


def test_the_notebook_aligns_a_system(folder: Path) -> None:
    printed = run(folder, sys.executable, "notebook.py")
    assert printed.startswith("1.0 red\n")
    assert "aligned" in printed


def shares(results: Path) -> pd.Series:
    """Of right answers, by method."""
    metrics = pd.read_csv(results / "metrics.csv")
    return metrics[metrics["metric"] == "right"].set_index("method")["mean"]


@pytest.mark.parametrize("warm", [True, False])
def test_a_system_of_ones_own_with_its_objective_and_figure_reaches_the_report(folder: Path, warm: bool) -> None:
    config = yaml.safe_load(BLOCKS["my_config.yaml"])
    results = folder / f"results-{warm}"
    config |= {"results": results.name, "plugins": ["my_objectives.py"], "seeds": [0]}
    config["systems"]["colours"]["methods"]["doubtful"] = {"objective": "most_doubtful"}
    config["systems"]["colours"]["figures"].append("my_figure.py:spread")
    config["studies"] = {"halves": {"factory": "my_study.py:run", "betas": [1, 2]}}
    config["only"].append("halves")
    (folder / "all.yaml").write_text(yaml.safe_dump(config))
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "all.yaml", "--"]
    goals = ["all", f"{results.name}/studies/halves.csv"] if warm else [f"{results.name}/metrics.csv"]
    run(folder, *([sys.executable, "-m", "sysdpo", "warm"] if warm else []), *snakemake, *goals)
    metrics = shares(results)
    assert metrics["direct"] > metrics["before"] + 0.2
    if not warm:
        assert metrics.equals(shares(folder / "results-True"))
        return
    page = (results / "report.html").read_text()
    for said in (
        "Colours",
        "Most doubtful",
        "The loss of the smallest margin alone.",
        "How sure they are",
        "Right (%)",
    ):
        assert said in page, said
    assert (results / "figures/colours_spread.png").exists()
    assert pd.read_csv(results / "studies/halves.csv")["half"].tolist() == [0.5, 1.0]
    # A change of the system's file runs again what depends on it.
    (folder / "my_system.py").write_text(BLOCKS["my_system.py"] + "\n# changed\n")
    planned = run(folder, *snakemake[:3], "--dry-run", *snakemake[3:], "all")
    (folder / "my_system.py").write_text(BLOCKS["my_system.py"])
    assert "rule train:" in planned
    assert "rule prompts:" in planned


def test_a_component_of_ones_own_is_aligned(folder: Path) -> None:
    code = (
        "import sysdpo; from my_component import Coin; from sysdpo import Node, System\n"
        "s = System(['text'], [Node('toss', Coin(), ['text'])])\n"
        "p = sysdpo.read_preferences([{'text': 'x', 'chosen': 'heads', 'rejected': 'tails'}], s)\n"
        "print(sysdpo.align(s, p, steps=20, learning_rate=0.2, held_out=p).preference_accuracy)\n"
    )
    assert run(folder, sys.executable, "-c", code) == "1.0\n"
