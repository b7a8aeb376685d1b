"""The whole workflow at the scale `test`, in a copy of the project, and one seed of it again by hand."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from steps import Steps

REPOSITORY = Path(__file__).parents[2]
SCALE = "workflow/scales/test.yaml"
METRICS = {
    "preference_score",
    "order_consistency",
    "spread",
    "well_formed",
    "image_distance",
    "readout_score",
    "readout_order_consistency",
    "kl_writer",
    "kl_painter",
}


class Project:
    """A copy of the project: what a user has after cloning it."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("sysdpo", "workflow", "envs"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(REPOSITORY / name, folder)
        self.results = folder / yaml.safe_load((folder / SCALE).read_text())["results"]

    def snakemake(self, *arguments: str) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "snakemake",
                "--cores",
                "2",
                "--scheduler",
                "greedy",
                "--configfile",
                SCALE,
                *arguments,
            ],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout + done.stderr

    def run(self, seed: int = 0) -> Path:
        return self.results / "runs" / "progressive_images" / str(seed)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"))
    made.snakemake()
    return made


@pytest.fixture(scope="module")
def described() -> dict:
    return yaml.safe_load((REPOSITORY / "config.yaml").read_text())["systems"]["progressive_images"]


def test_the_metrics_are_complete_and_make_sense(project: Project, described: dict) -> None:
    metrics = pd.read_csv(project.results / "metrics.csv")
    assert set(metrics["method"]) == set(described["methods"])
    assert set(metrics["metric"]) == METRICS
    assert not metrics.duplicated(["method", "metric"]).any()
    assert np.isfinite(metrics[["mean", "ci_low", "ci_high"]]).all(axis=None)
    assert (metrics["ci_low"] <= metrics["mean"] + 1e-9).all()
    assert (metrics["mean"] <= metrics["ci_high"] + 1e-9).all()
    assert set(metrics["n_prompts"]) == {24}
    assert set(metrics["n_seeds"]) == {1}
    means = metrics.set_index(["method", "metric"])["mean"]
    for name in ("order_consistency", "well_formed", "readout_order_consistency", "image_distance"):
        assert means.xs(name, level="metric").between(0, 1).all()
    assert means["best_of_n", "preference_score"] > means["before", "preference_score"]


def test_what_was_not_trained_has_not_drifted(project: Project) -> None:
    means = pd.read_csv(project.results / "metrics.csv").set_index(["method", "metric"])["mean"]
    assert means["before", "kl_writer"] == means["before", "kl_painter"] == 0.0
    assert means["only_writer", "kl_painter"] == 0.0
    assert means["only_painter", "kl_writer"] == 0.0
    assert means["only_writer", "kl_writer"] != 0.0
    assert means["direct", "kl_writer"] != 0.0
    assert means["direct", "kl_painter"] != 0.0


def test_every_trained_method_is_compared_with_every_baseline(project: Project, described: dict) -> None:
    comparisons = pd.read_csv(project.results / "comparisons.csv")
    trained = {name for name, row in described["methods"].items() if row["objective"] != "none"}
    expected = {(method, rival) for method in trained for rival in described["baselines"] if method != rival}
    assert set(zip(comparisons["method"], comparisons["baseline"], strict=True)) == expected
    means = pd.read_csv(project.results / "metrics.csv").set_index(["method", "metric"])["mean"]
    for row in comparisons.itertuples():
        difference = means[row.method, row.metric] - means[row.baseline, row.metric]
        assert row.difference == pytest.approx(difference, abs=1e-4)


def test_training_starts_at_ln_2_from_the_same_pairs_for_all(project: Project, described: dict) -> None:
    first = {}
    for method, row in described["methods"].items():
        if row["objective"] == "none":
            continue
        log = (project.run() / method / "training" / "training.jsonl").read_text().splitlines()
        assert len(log) == 4
        first[method] = json.loads(log[0])
    for method in ("direct", "only_writer", "only_painter", "shuffled"):
        assert first[method]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert first["separate"]["loss"] == pytest.approx(1.386294, abs=1e-6)
    assert first["chosen_only"]["loss"] == 0.0
    for method, row in first.items():
        margins = [value for key, value in row.items() if key.startswith("margin_")]
        assert margins == [0.0] * (1 if method.startswith("only_") else 2)
    # The same chosen rows, whatever the method; random labels choose others.
    shown = {method: row["chosen_log_prob_writer"] for method, row in first.items() if "chosen_log_prob_writer" in row}
    assert shown["direct"] == shown["separate"] == shown["chosen_only"]
    assert shown["only_writer"] == pytest.approx(shown["direct"])


def test_tables_figures_and_the_report_are_there(project: Project) -> None:
    for ending in ("csv", "md", "tex"):
        text = (project.results / "tables" / f"progressive_images.{ending}").read_text()
        assert "direct" in text.lower()
    for figure in ("comparison", "training", "gallery", "attributes", "frontier", "words"):
        for ending in ("png", "svg"):
            path = project.results / "figures" / f"progressive_images_{figure}.{ending}"
            assert path.stat().st_size > 1000, path
    page = (project.results / "report.html").read_text()
    assert page.count("<img") + page.count("<svg") >= 6
    for elsewhere in ('src="http', 'href="style', "<script src", str(project.folder)):
        assert elsewhere not in page


def test_the_manifest_knows_the_run(project: Project) -> None:
    text = (project.results / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["seeds"] == [0]
    assert "metrics.csv" in text
    assert "torch" in text
    assert str(project.folder) not in text


def test_the_foundation_models_were_inspected(project: Project) -> None:
    quality = json.loads((project.run() / "foundation" / "quality.json").read_text())
    assert len(quality["painter_levels"]) == 15
    assert 0 <= quality["well_formed"] <= 1


def test_nothing_is_left_to_do(project: Project) -> None:
    assert "Nothing to be done" in project.snakemake("--dry-run")


def test_the_same_run_again_by_hand_gives_the_same_bytes(project: Project, tmp_path: Path) -> None:
    resolved = yaml.safe_load((project.results / "config.yaml").read_text())
    steps = Steps(tmp_path / "by-hand", resolved)
    steps.prepare()
    assert steps("train", method="direct") == 0
    assert steps("evaluate", method="direct", training=steps.run / "direct" / "training") == 0
    assert steps("evaluate", method="before") == 0
    ours = steps.compare("before", "direct").read_bytes()

    for name in ("trajectories.parquet", "scores.parquet", "pairs.parquet", "direct/evaluation/metrics.parquet"):
        assert (steps.run / name).read_bytes() == (project.run() / name).read_bytes(), name
    theirs = Steps(tmp_path / "theirs", resolved)
    theirs.run = project.run()
    assert theirs.compare("before", "direct").read_bytes() == ours
