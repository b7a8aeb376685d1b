"""What `docs/your-own-preferences.md` prints is run as printed: preferences alone, and no score anywhere."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from printed import attempt, blocks_of, lay_out, run

BLOCKS = blocks_of("docs/your-own-preferences.md")
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile"]
JOB = re.compile(r"(\w+):\n.*?\n    wildcards: system=(\w+)", re.DOTALL)
WHOLE = """
import sysdpo
from painting import make

benchmark = sysdpo.Benchmark(make, preferences="whole.jsonl", title="Whole trajectories")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = lay_out(BLOCKS, tmp_path_factory.mktemp("preferences"))
    run(root, sys.executable, "write_preferences.py")
    return root


def changed(folder: Path, name: str, methods: dict[str, Any] | None = None, **over: Any) -> str:
    """The printed configuration with one seed, and other methods or settings of the system."""
    config = yaml.safe_load(BLOCKS["painting.yaml"]) | {"seeds": [0], "results": f"results/{name}"}
    described = config["systems"]["painting"]
    described |= over | ({"methods": methods, "baselines": ["before"]} if methods else {})
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return f"{name}.yaml"


def accuracy(results: Path, system: str = "painting") -> pd.DataFrame:
    metrics = pd.read_csv(results / "metrics.csv")
    assert not metrics["metric"].str.contains("score|win_rate").any()
    return metrics[(metrics["metric"] == "preference_accuracy") & (metrics["system"] == system)].set_index("method")


def test_every_format_is_read_and_a_notebook_aligns(folder: Path) -> None:
    lines = run(folder, sys.executable, "formats.py").splitlines()
    found = [line.split(" 1 ")[1] for line in lines]
    assert found == ["intermediates known" if number == 2 else "outputs alone" for number in range(7)]
    final, looks = run(folder, sys.executable, "align.py").split(" ", 1)
    assert float(final) > 0.7
    assert len(json.loads(looks)) == 2


@pytest.fixture(scope="module")
def results(folder: Path) -> Path:
    """Two systems in one run: one has outputs alone, the other one whole trajectories, from which all methods learn."""
    config = yaml.safe_load((folder / changed(folder, "everything")).read_text())
    lines = [json.loads(line) for line in (folder / "preferences.jsonl").read_text().splitlines()]
    for row in lines:
        colour = {"colour": row["prompt"].split()[-1]}
        row |= {side: colour | dict.fromkeys(("hint", "answer"), row[side]) for side in ("chosen", "rejected")}
    (folder / "whole.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in lines))
    (folder / "whole.py").write_text(WHOLE)
    methods = {name: {"objective": name} for name in ("separate", "direct")} | {"before": {"objective": "none"}}
    named = {"factory": "whole.py:benchmark", "methods": methods, "baselines": ["before", "separate"]}
    config["systems"]["whole"] = config["systems"]["painting"] | named
    config["only"].append("whole")
    (folder / "everything.yaml").write_text(yaml.safe_dump(config))
    run(folder, sys.executable, "-m", "sysdpo", "warm", *SNAKEMAKE, "everything.yaml")
    return folder / "results/everything"


@pytest.mark.parametrize(("system", "trained"), [("painting", "sampling"), ("whole", "direct")])
def test_all_pairs_are_used_and_accuracy_is_measured(results: Path, system: str, trained: str) -> None:
    prompts = pd.read_parquet(results / f"runs/{system}/prompts.parquet").set_index("prompt_id")["split"]
    assert prompts.value_counts().to_dict() == {"train": 70, "test": 20, "validation": 10}
    learnt = pd.read_parquet(results / f"runs/{system}/dataset/pairs.parquet")
    assert set(prompts[learnt["prompt_id"]]) == {"train"}
    run = results / f"runs/{system}/0/{trained}"
    judged = pd.read_parquet(run / "evaluation/metrics.parquet").query("metric == 'preference_accuracy'")
    assert (len(learnt), len(judged)) == (2 * 70, 2 * 20)  # and 2 · 10 for validation: 200 lines are 200 pairs
    log = pd.read_json(run / "training/training.jsonl", lines=True)
    assert log["step"][log["held_out_accuracy"].notna()].tolist() == [9, 19, 29, 39]
    measured = accuracy(results, system)
    assert measured.loc["before", ["mean", "ci_low", "ci_high"]].tolist() == [0.5, 0.5, 0.5]  # known, not estimated
    assert measured.loc[trained, "mean"] == judged["value"].mean()
    assert measured.loc[trained, "ci_low"] > 0.5
    assert measured.loc[trained, "n_prompts"] == 20


def test_the_report_is_about_accuracy_and_knows_no_score(results: Path) -> None:
    compared = pd.read_csv(results / "comparisons.csv").query("metric == 'preference_accuracy'")
    made = set(zip(compared["method"], compared["baseline"], strict=True))
    assert {("sampling", "before"), ("direct", "separate")} <= made
    assert (results / "tables/painting.md").read_text().startswith("| Method | Preference accuracy (%) |")
    page = (results / "report.html").read_text()
    assert "Preference accuracy (share of held-out pairs" in page
    assert "Held-out pairs ranked right (%)" in (results / "figures/painting_training.svg").read_text()
    assert "Preference score" not in page


def test_each_step_by_itself_comes_to_the_same(folder: Path, results: Path) -> None:
    methods = {"before": {"objective": "none"}, "sampling": {"objective": "sampling"}}
    run(folder, *SNAKEMAKE, changed(folder, "apart", methods, figures=[]), "--", "results/apart/metrics.csv")
    apart = accuracy(folder / "results/apart")
    assert apart.equals(accuracy(results).loc[apart.index])


def test_a_change_of_the_file_runs_again_what_depends_on_it(folder: Path, results: Path) -> None:
    with (folder / "preferences.jsonl").open("a") as file:
        file.write('{"prompt": "another of red", "chosen": "red", "rejected": "blue"}\n')
    planned = run(folder, *SNAKEMAKE[:3], "--dry-run", *SNAKEMAKE[3:], "everything.yaml")
    blocks = re.split(r"\n(?:local)?rule ", planned)[1:]
    jobs = {found.groups() for block in blocks if (found := JOB.match(block))}
    models = {"prompts", "dataset", "train", "evaluate"}
    assert {(rule, system) for rule, system in jobs if rule in models} == {(rule, "painting") for rule in models}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"objective": "direct"}, "direct.preferences: 'dataset' has final outputs alone, and 'direct' must see all"),
        (
            {"objective": "sampling", "preferences": "sampled"},
            "'sampled' should be 'dataset', because this system has no",
        ),
        ({"objective": "none", "best_of": 3}, "best_of: 3 should be 1, because this system has no score to pick by"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_job(folder: Path, row: dict[str, Any], sentence: str) -> None:
    path = changed(folder, "wrong", {"before": {"objective": "none"}, row["objective"]: row})
    done = attempt(folder, *SNAKEMAKE, path, "--dry-run")
    assert done.returncode != 0
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("Error in the configuration:")]
    assert sentence in said
    assert not (folder / "results/wrong").exists()
