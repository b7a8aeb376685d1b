"""Pipelines that nobody had in mind: each is one file, is checked, and goes through the workflow to the report."""

import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_models
import tiny_seeing
import yaml
from printed import attempt, lay_out, run

PIPELINES = Path(__file__).parent / "pipelines"
SYSDPO = (sys.executable, "-m", "sysdpo")
TRAINED = {"router": ["route", "short", "long"], "retriever": ["summary", "answer"]}
TRAINED["refined_painter"] = ["draft", "caption", "image"]
WITHOUT_SAMPLING = {"router": "objective: 'sampling' needs a likelihood of the output 'answer'"}
"""A function picks what people see."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipelines")
    tiny_models.save_language_model(root / "models/language")
    tiny_models.save_painter(root / "models/painter")
    tiny_seeing.save_router(root / "models/router")
    return lay_out({path.name: path.read_text() for path in PIPELINES.glob("*.py")}, root)


def configured(name: str, methods: list[str]) -> dict:
    rows = {"before": {"objective": "none"}} | {method: {"objective": method} for method in methods}
    training = {"learning_rate": dict.fromkeys(TRAINED[name], 0.01), "steps": 2, "batch_size": 4, "warmup_steps": 0}
    system = {
        "factory": f"{name}.py:benchmark",
        "components": {component: {} for component in TRAINED[name]},
        "trajectories": {"samples_per_prompt": 4},
        "training": training,
        "methods": rows,
        "baselines": ["before"],
        "evaluation": {"samples_per_prompt": 2},
        "figures": ["comparison"],
    }
    return {"only": [name], "results": f"results/{name}", "claims": None, "seeds": [0], "systems": {name: system}}


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_pipeline_of_one_file_reaches_the_report(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_MODELS", str(folder / "models"))
    assert "All is well" in run(folder, *SYSDPO, "check", f"{name}.py")
    methods = ["separate", "direct"] if name in WITHOUT_SAMPLING else ["separate", "direct", "sampling"]
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(configured(name, methods)))
    snakemake = (*SYSDPO, "warm", sys.executable, "-m", "snakemake", "--cores", "1", "--quiet")
    run(folder, *snakemake, "--configfile", f"{name}.yaml")
    results = folder / "results" / name
    metrics = pd.read_csv(results / "metrics.csv")
    assert set(metrics["method"]) == {"before", *methods}
    assert (results / "report.html").read_text().count("<h2") > 1
    for method in methods:
        adapters = results / "runs" / name / "0" / method / "training" / "adapters"
        assert sorted(path.name for path in adapters.iterdir()) == sorted(TRAINED[name])


@pytest.mark.parametrize("name", sorted(WITHOUT_SAMPLING))
def test_what_cannot_be_summed_over_is_said_in_a_sentence(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_MODELS", str(folder / "models"))
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(configured(name, ["sampling"])))
    done = attempt(folder, sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", f"{name}.yaml")
    assert done.returncode != 0
    assert WITHOUT_SAMPLING[name] in done.stdout + done.stderr
