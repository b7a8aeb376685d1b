"""Which jobs the workflow plans, from nothing and after a change, and what a run leaves behind."""

from collections import Counter
from pathlib import Path

import pytest
import yaml
from project import REPOSITORY, Job, Project, make_project

from sysdpo.config import without_dropped


def rules(jobs: list[Job]) -> Counter[str]:
    return Counter(job.rule for job in jobs)


def methods(jobs: list[Job]) -> set[str]:
    return {job.wildcards["method"] for job in jobs if "method" in job.wildcards}


def scales() -> list[Path | None]:
    return [None, *sorted((REPOSITORY / "workflow" / "scales").glob("*.yaml"))]


@pytest.mark.parametrize("scale", scales(), ids=lambda path: path.stem if path else "default")
def test_every_scale_plans_each_step_for_each_seed_and_method(tmp_path: Path, scale: Path | None) -> None:
    project = make_project(tmp_path)
    config = laid_over(project.config, yaml.safe_load(scale.read_text()) if scale else {})
    seeds, systems = len(config["seeds"]), without_dropped(config)["systems"].values()
    expected: Counter[str] = Counter(["metrics", "manifest", "report"])
    expected.update(dict.fromkeys(["study", "draw"], int("theory" in (config.get("studies") or {}))))
    for system in systems:
        trained = [name for name, row in system["methods"].items() if row["objective"] != "none"]
        each_seed = {"inspect": 1, "sample": 1, "score": 1, "pair": 1, "foundation": len(system["foundation"])}
        each_seed |= {"train": len(trained), "evaluate": len(system["methods"])}
        expected.update({rule: seeds * count for rule, count in each_seed.items()})
        expected.update({"prompts": 1, "tables": 1, "credit_table": 1, "figure": len(system["figures"])})

    planned = project.planned("--configfile", str(scale)) if scale else project.planned()

    assert rules(planned) == expected


def laid_over(config: dict, over: dict) -> dict:
    """As Snakemake lays one configuration file over another."""
    nested = {key: laid_over(config.get(key) or {}, value) for key, value in over.items() if isinstance(value, dict)}
    return config | over | nested


def test_tune_and_sweep_train_every_point_of_their_grids(project: Project) -> None:
    tuned = project.planned("tune")
    assert methods(tuned) == {"tune-direct-00", "tune-direct-01", "tune-separate-00", "tune-separate-01"}
    assert rules(tuned)["train"] == rules(tuned)["evaluate"] == 4
    swept = project.planned("sweep")
    assert methods(swept) == {"sweep_pairs-direct-00", "sweep_pairs-direct-01"}
    assert rules(swept)["experiment"] == 1


def test_nothing_is_left_to_do_after_a_run(finished: Project) -> None:
    assert finished.planned() == []
    for name in ("metrics.csv", "comparisons.csv", "manifest.json", "report.html", "config.yaml"):
        assert (finished.folder / "results" / name).is_file()
    assert yaml.safe_load((finished.folder / "results/config.yaml").read_text()) == finished.config


def test_beta_of_one_method_reruns_that_method_alone(finished: Project) -> None:
    finished.edit(0.123, "methods", "direct", "beta")
    planned = finished.planned()
    assert methods(planned) == {"direct"}
    once = ("train", "evaluate", "metrics", "tables", "credit_table", "manifest", "report")
    assert rules(planned) == dict.fromkeys(once, 1) | {"figure": len(finished.settings["figures"])}

    finished.run()
    assert finished.planned() == []


@pytest.mark.parametrize(
    ("change", "reran", "kept"),
    [
        ((77, "training", "steps"), {"train"}, {"foundation", "sample", "pair", "inspect"}),
        ((7, "evaluation", "samples_per_prompt"), {"evaluate"}, {"train", "sample"}),
        ((7, "components", "painter", "sampling", "num_inference_steps"), {"sample"}, {"foundation"}),
        ((7.0, "components", "painter", "estimator", "omega"), {"train"}, {"sample", "inspect"}),
        ((["before"], "baselines"), {"metrics"}, {"evaluate", "train"}),
    ],
    ids=lambda value: ".".join(map(str, value[1:])) if isinstance(value, tuple) else "",
)
def test_a_change_reruns_what_depends_on_it(
    finished: Project, change: tuple[object, ...], reran: set[str], kept: set[str]
) -> None:
    finished.edit(change[0], *map(str, change[1:]))
    planned = set(rules(finished.planned()))
    assert reran <= planned
    assert not kept & planned


def test_a_shared_training_setting_leaves_untrained_methods_alone(finished: Project) -> None:
    finished.edit(0.123, "training", "beta")
    assert methods(finished.planned()).isdisjoint({"before", "best_of_n"})


def test_a_new_foundation_setting_remakes_only_that_model(finished: Project) -> None:
    finished.edit(0.31, "foundation", "writer", "alike")
    planned = finished.planned()
    assert {job.wildcards["model"] for job in planned if job.rule == "foundation"} == {"writer"}
    assert {"inspect", "sample", "score", "pair", "train", "evaluate"} <= set(rules(planned))
    assert "prompts" not in rules(planned)


def test_an_experiment_renews_the_report_and_nothing_else(finished: Project) -> None:
    finished.run("tune")
    assert set(rules(finished.planned())) == {"manifest", "report"}


def test_committed_experiments_ask_for_none_of_their_runs(project: Project) -> None:
    table = project.folder / "results/experiments/tune.csv"
    table.parent.mkdir(parents=True)
    table.write_text("as committed")
    assert not any("tune" in method for method in methods(project.planned()))


def test_a_job_that_fails_leaves_nothing_half_made(project: Project) -> None:
    failed = project.snakemake("--cores", "1", "--scheduler", "greedy", STUB_FAILS="train")
    run = project.folder / "results/runs/progressive_images/0"
    assert failed.returncode == 1
    assert (run / "pairs.parquet").is_file()
    assert not list(run.glob("*/training"))
    assert "train failed as asked" in failed.stderr

    project.run()
    assert (run / "direct/training/training.jsonl").is_file()


def test_a_log_holds_what_the_terminal_showed(finished: Project) -> None:
    logs = finished.folder / "results/logs/progressive_images/0"
    assert (logs / "direct/train.log").read_text() == "train begins\n"
    assert (finished.folder / "results/benchmarks/progressive_images/0/direct/train.tsv").is_file()


def test_snakemakes_own_report_can_be_made(finished: Project) -> None:
    finished.run("--report", "workflow.zip")
    assert (finished.folder / "workflow.zip").stat().st_size > 0


def test_the_gpu_profile_gives_each_model_job_the_gpu(project: Project) -> None:
    shown = project.run("--dry-run", "--workflow-profile", str(REPOSITORY / "workflow/profiles/gpu"))
    blocks = {block.split(":", 1)[0]: block for block in shown.split("\nrule ")[1:]}
    for rule in ("foundation", "inspect", "sample", "score", "train", "evaluate"):
        assert "gpu=1" in blocks[rule], rule
    assert "gpu=0" in blocks["metrics"]
