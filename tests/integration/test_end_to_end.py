"""The whole workflow at the scale `test`, in a copy of the project, and one seed of it again by hand."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from clone import REPOSITORY, clone, warm_snakemake
from steps import Steps

SCALE = "workflow/scales/test.yaml"
IMAGES, QA = "progressive_images", "two_stage_qa"
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
    "kl_selection",
    "order_consistency_greedy",
    "well_formed_greedy",
}
QA_METRICS = {
    "accuracy",
    "accuracy_greedy",
    "length",
    "preference_score",
    "win_rate_vs_before",
    "win_rate_vs_separate",
    "kl_first",
    "kl_second",
    "kl_selection",
}


class Project:
    """A copy of the project: what a user has after cloning it."""

    def __init__(self, folder: Path):
        self.folder = clone(folder)
        self.results = folder / yaml.safe_load((folder / SCALE).read_text())["results"]

    def snakemake(self, *arguments: str) -> str:
        """What a warm run of the workflow prints; it must succeed."""
        return warm_snakemake(self.folder, "--configfile", SCALE, *arguments)

    def run(self, system: str = IMAGES) -> Path:
        return self.results / "runs" / system / "0"

    def table(self, name: str, system: str) -> pd.DataFrame:
        table = pd.read_csv(self.results / f"{name}.csv")
        return table[table["system"] == system]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"))
    made.snakemake()
    return made


def described(system: str) -> dict:
    return yaml.safe_load((REPOSITORY / "config.yaml").read_text())["systems"][system]


def logs(project: Project, system: str) -> dict[str, dict]:
    """The first line of every training's log."""
    first = {}
    for method, row in described(system)["methods"].items():
        if row["objective"] != "none":
            log = (project.run(system) / method / "training" / "training.jsonl").read_text().splitlines()
            assert len(log) == (8 if method.endswith("_longer") else 4)
            first[method] = json.loads(log[0])
    return first


@pytest.mark.parametrize(("system", "expected", "prompts"), [(IMAGES, METRICS, 24), (QA, QA_METRICS, 20)])
def test_the_metrics_are_complete_and_make_sense(
    project: Project, system: str, expected: set[str], prompts: int
) -> None:
    metrics = project.table("metrics", system)
    assert set(metrics["method"]) == set(described(system)["methods"])
    assert set(metrics["metric"]) == expected
    assert not metrics.duplicated(["method", "metric"]).any()
    assert np.isfinite(metrics[["mean", "ci_low", "ci_high"]]).all(axis=None)
    assert (metrics["ci_low"] <= metrics["mean"] + 1e-9).all()
    assert (metrics["mean"] <= metrics["ci_high"] + 1e-9).all()
    assert set(metrics["n_prompts"]) == {prompts}
    assert set(metrics["n_seeds"]) == {1}
    means = metrics.set_index(["method", "metric"])["mean"]
    shares = {"order_consistency", "well_formed", "readout_order_consistency", "image_distance", "accuracy"}
    for name in (shares | {"accuracy_greedy", "win_rate_vs_before", "win_rate_vs_separate"}) & expected:
        assert means.xs(name, level="metric").between(0, 1).all()
    assert means["best_of_n", "preference_score"] >= means["before", "preference_score"]


@pytest.mark.parametrize(("system", "parts"), [(IMAGES, ("writer", "painter")), (QA, ("first", "second"))])
def test_what_was_not_trained_has_not_drifted(project: Project, system: str, parts: tuple[str, str]) -> None:
    means = project.table("metrics", system).set_index(["method", "metric"])["mean"]
    one, other = parts
    assert means["before", f"kl_{one}"] == means["before", f"kl_{other}"] == 0.0
    assert means[f"only_{one}", f"kl_{other}"] == means[f"only_{other}", f"kl_{one}"] == 0.0
    assert means[f"only_{one}", f"kl_{one}"] != 0.0
    for method in ("direct", "sampling"):
        assert means[method, f"kl_{one}"] != 0.0
        assert means[method, f"kl_{other}"] != 0.0


@pytest.mark.parametrize("system", [IMAGES, QA])
def test_every_trained_method_is_compared_with_every_baseline(project: Project, system: str) -> None:
    comparisons = project.table("comparisons", system)
    trained = {name for name, row in described(system)["methods"].items() if row["objective"] != "none"}
    rivals = set(described(system)["baselines"]) & set(described(system)["methods"])
    expected = {(method, rival) for method in trained for rival in rivals if method != rival}
    assert set(zip(comparisons["method"], comparisons["baseline"], strict=True)) == expected
    means = project.table("metrics", system).set_index(["method", "metric"])["mean"]
    for row in comparisons.itertuples():
        # The rival of a win rate has none against itself, so that pair is not compared.
        difference = means[row.method, row.metric] - means[row.baseline, row.metric]
        assert row.difference == pytest.approx(difference, abs=1e-4)


@pytest.mark.parametrize("system", [IMAGES, QA])
def test_training_starts_at_ln_2_from_the_same_pairs_for_all(project: Project, system: str) -> None:
    first = logs(project, system)
    for method, row in first.items():
        objective = described(system)["methods"][method]["objective"]
        expected = {"separate": 1.386294, "likelihood": 0.0}.get(objective, 0.693147)
        assert row["loss"] == pytest.approx(expected, abs=1e-6), method
        margins = [value for key, value in row.items() if key.startswith("margin")]
        assert margins == [0.0] * (2 if method.startswith("only_") else 3), method
    # The same chosen rows, whatever the method; random labels choose others.
    name = "chosen_log_prob_writer" if system == IMAGES else "chosen_log_prob_first"
    shown = {method: row[name] for method, row in first.items() if name in row}
    assert shown["direct"] == shown["separate"]
    if system == IMAGES:
        assert shown["direct"] == shown["likelihood"]
        assert shown["only_writer"] == pytest.approx(shown["direct"])


@pytest.mark.parametrize("system", [IMAGES, QA])
def test_sampling_logs_what_its_candidates_are_worth(project: Project, system: str) -> None:
    first = logs(project, system)["sampling"]
    count = described(system)["methods"]["sampling"]["candidates"]["count"]
    assert 1 <= first["effective_sample_size"] <= first["candidates"] <= count
    assert 1 / count <= first["likeliest_candidate"] <= 1
    assert 0 < first["candidate_mass"] <= 1


@pytest.mark.parametrize("system", [IMAGES, QA])
def test_tables_and_figures_are_there(project: Project, system: str) -> None:
    for ending in ("csv", "md", "tex"):
        text = (project.results / "tables" / f"{system}.{ending}").read_text()
        assert "direct" in text.lower()
    credit = pd.read_csv(project.results / "tables" / f"{system}_credit.csv")
    assert {"direct", "separate", "sampling"} <= set(credit["method"])
    for figure in [name.rpartition(":")[2] for name in described(system)["figures"]]:
        for ending in ("png", "svg"):
            path = project.results / "figures" / f"{system}_{figure}.{ending}"
            assert path.stat().st_size > 1000, path


def test_the_report_shows_both_applications_and_the_theory(project: Project) -> None:
    theory = pd.read_csv(project.results / "studies" / "theory.csv")
    assert {"direct", "separate", "sampling"} == set(theory["method"])
    assert (project.results / "figures" / "study_theory.svg").stat().st_size > 1000
    page = (project.results / "report.html").read_text()
    for section in (IMAGES, QA, "study-theory"):
        assert f'id="{section}"' in page
    page = (project.results / "report.html").read_text()
    assert page.count("<img") + page.count("<svg") >= 6
    for elsewhere in ('src="http', 'href="style', "<script src", str(project.folder)):
        assert elsewhere not in page


def test_every_byte_is_as_committed(project: Project) -> None:
    """On every processor; `make digests` takes them again after a change that is meant to change numbers."""
    committed = json.loads((REPOSITORY / "workflow/scales/test.manifest.json").read_text())["files"]
    found = json.loads((project.results / "manifest.json").read_text())["files"]
    assert {name for name in committed.keys() | found.keys() if committed.get(name) != found.get(name)} == set()


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
