"""Which jobs the workflow plans, from nothing and after a change, and what a run leaves behind."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from functools import reduce
from pathlib import Path

import pytest
import yaml
from project import REPOSITORY, Job, Project, changed_profile, make_project, profile, training_on_several_nodes

from sysdpo.method.scales import without_dropped

RULES = sorted((REPOSITORY / "workflow/rules").glob("*.smk"))
DATASET = {"objective": "sampling", "preferences": "dataset"}


def rules(jobs: list[Job]) -> Counter[str]:
    return Counter(job.rule for job in jobs)


def methods(jobs: list[Job]) -> set[str]:
    return {job.wildcards["method"] for job in jobs if "method" in job.wildcards}


SCALES = sorted((REPOSITORY / "workflow" / "scales").glob("*.yaml"))
LAID_OVER = {"small-gpu": "paper"}
"""Scales that are laid over another one."""


def files_of(scale: str) -> list[Path]:
    """The files of a scale, as they are laid over each other; none of the default one."""
    names = [*([LAID_OVER[scale]] if scale in LAID_OVER else []), scale]
    return [path for name in names for path in SCALES if path.stem == name]


@pytest.mark.parametrize("scale", ["default", *(path.stem for path in SCALES)])
def test_every_scale_plans_each_step_for_each_seed_and_method(tmp_path: Path, scale: str) -> None:
    project = make_project(tmp_path)
    files = files_of(scale)
    config = reduce(laid_over, (yaml.safe_load(path.read_text()) for path in files), project.config)
    kept = without_dropped(config)
    seeds, systems = len(config["seeds"]), kept["systems"].values()
    expected: Counter[str] = Counter(["describe", "metrics", "manifest", "report"])
    expected.update(claims=int(config["claims"] is not None))
    expected.update(dict.fromkeys(["study", "draw"], int("theory" in (kept.get("studies") or {}))))
    for system in systems:
        rows = [system["training"] | row for row in system["methods"].values()]
        trained = [row for row in rows if row["objective"] != "none"]
        from_dataset = [row for row in trained if row.get("preferences") == "dataset"]
        models = len(system.get("foundation") or {})
        each_seed = Counter({"inspect": int(models > 0), "foundation": models, "train": len(trained)})
        if len(trained) > len(from_dataset):
            each_seed.update(score=1, pair=1)
            each_seed.update(jobs("sample", "gather_samples", system["trajectories"].get("shards", 1)))
        for _ in rows:
            each_seed.update(jobs("evaluate", "gather_evaluation", system["evaluation"].get("shards", 1)))
        expected.update({rule: seeds * count for rule, count in each_seed.items()})
        expected.update({"prompts": 1, "tables": 1, "credit_table": 1, "figure": len(system["figures"])})
        expected.update(dataset=int(bool(from_dataset)))

    planned = project.planned(*(["--configfile", *map(str, files)] if files else []))

    assert rules(planned) == +expected


def jobs(rule: str, gather: str, shards: int) -> dict[str, int]:
    return {rule: 1} if shards == 1 else {f"{rule}_shard": shards, gather: 1}


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


def test_ablations_are_a_target_of_their_own_beside_the_methods(finished: Project) -> None:
    planned = finished.planned("ablations")
    assert [job.wildcards["method"] for job in planned if job.rule == "train"] == ["direct+likelihood"]
    evaluated = {job.wildcards["method"] for job in planned if job.rule == "evaluate"}
    assert evaluated == {"direct+likelihood", "swap"}
    once = ("ablation_metrics", "ablation_tables", "ablation_claims")
    assert [rules(planned)[name] for name in once] == [1, 1, 1]
    finished.run("ablations")
    assert (finished.folder / "results/ablations/progressive_images.md").is_file()
    assert (finished.folder / "results/ablations/claims.md").is_file()
    assert set(rules(finished.planned())) == {"manifest", "report"}  # which show them
    finished.edit({"objective": "none", "take": {"writer": "direct"}}, "ablations", "swap")
    assert {job.rule for job in finished.planned("ablations")} == {"describe", "evaluate", *once}


def test_nothing_is_left_to_do_after_a_run(finished: Project) -> None:
    assert finished.planned() == []
    made = ("metrics.csv", "comparisons.csv", "claims.csv", "claims.md", "manifest.json", "report.html", "config.yaml")
    for name in made:
        assert (finished.folder / "results" / name).is_file()
    assert yaml.safe_load((finished.folder / "results/config.yaml").read_text()) == finished.config


def test_beta_of_one_method_reruns_that_method_alone(finished: Project) -> None:
    finished.edit(0.123, "methods", "direct", "beta")
    planned = finished.planned()
    assert methods(planned) == {"direct"}
    once = ("train", "evaluate", "metrics", "tables", "claims", "credit_table", "manifest", "report")
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
        ((["separate"], "baselines"), {"metrics"}, {"evaluate", "train"}),
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


RUN = "results/runs/progressive_images/0"


def test_a_change_of_ones_own_module_reruns_what_it_is_behind(project: Project) -> None:
    module = project.folder / "mine" / "system.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").touch()
    module.write_text("def build(settings): ...\n")
    project.edit("mine.system:build", "factory")
    targets = (f"{RUN}/direct/evaluation", f"{RUN}/foundation/quality.json")
    project.run(*targets)
    assert project.planned(*targets) == []
    later(module)
    reran = {"prompts", "foundation", "inspect", "sample", "score", "pair", "train", "evaluate"}
    assert set(rules(project.planned(*targets))) == reran


@pytest.mark.parametrize(
    ("setting", "target", "rule"),
    [
        ("questions", "results/runs/progressive_images/prompts.parquet", "prompts"),
        ("studies", "results/studies/theory.csv", "study"),
    ],
)
def test_a_change_of_the_module_behind_questions_or_a_study_reruns_it(
    project: Project, setting: str, target: str, rule: str
) -> None:
    (project.folder / "mine.py").write_text("def run(settings): ...\n\n\ndef build(settings): ...\n")
    if setting == "studies":
        project.config = project.config | {"studies": {"theory": {"factory": "mine.py:run"}}}
    else:
        project.edit("json:loads", "factory")  # a system of one's own, which may have any section
        project.edit({"source": "mine.py:build"}, "questions")
    project.run(target)
    assert project.planned(target) == []
    later(project.folder / "mine.py")
    assert set(rules(project.planned(target))) == {rule}


@pytest.mark.parametrize("source", ["data", "data/questions.jsonl"])
def test_a_change_of_local_data_reruns_what_reads_them(project: Project, source: str) -> None:
    data = project.folder / "data"
    data.mkdir()
    (data / ".hidden").touch()
    (data / "questions.jsonl").write_text("{}\n")
    project.edit("json:loads", "factory")  # a system of one's own, which may have any section
    project.edit({"source": source}, "data")
    target = f"{RUN}/pairs.parquet"
    project.run(target)
    later(data / ".hidden")
    assert project.planned(target) == []
    later(data / "questions.jsonl")
    assert set(rules(project.planned(target))) == {"prompts", "sample", "score", "pair"}


def test_a_change_of_the_claims_holds_them_against_the_same_intervals(finished: Project) -> None:
    later(finished.folder / "claims.yaml")
    assert rules(finished.planned()) == dict.fromkeys(("claims", "manifest", "report"), 1)
    finished.config = finished.config | {"claims": None}
    assert set(rules(finished.planned())) == {"manifest", "report"}


def later(path: Path) -> None:
    """Changed after everything else."""
    path.write_text(path.read_text() + "\n")
    os.utime(path, (time.time() + 10, time.time() + 10))


def test_what_does_not_change_a_training_is_no_reason_to_repeat_it(finished: Project) -> None:
    finished.edit(2, "methods", "direct", "micro_batch_size")
    assert set(rules(finished.planned())) == {"manifest", "report"}
    finished.edit(3, "methods", "direct", "best_of")
    planned = rules(finished.planned())
    assert planned["evaluate"] == 1
    assert "train" not in planned


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


MODEL_RULES = {"foundation", "inspect", "sample", "sample_shard", "score", "train", "evaluate", "evaluate_shard"}


@pytest.mark.parametrize(("name", "gpus"), [("default", 0), ("slurm", 0), ("gpu", 1), ("slurm-gpu", 1)])
def test_a_profile_gives_each_model_job_a_gpu_or_none_of_them(project: Project, name: str, gpus: int) -> None:
    asked = profile(name).get("set-resources", {})
    assert {rule for rule, resources in asked.items() if resources.get("gpu") == 1} == (MODEL_RULES if gpus else set())
    assert profile(name)["resources"]["gpu"] >= gpus  # counted, hence never shared
    project.edit(2, "evaluation", "shards")
    option = "--profile" if name.startswith("slurm") else "--workflow-profile"
    shown = project.run("--dry-run", option, f"workflow/profiles/{name}")
    for rule in ("foundation", "inspect", "sample", "score", "train", "evaluate_shard"):
        assert f"gpu={gpus}" in resources(shown, rule)
    assert "gpu=0" in resources(shown, "metrics")


def resources(shown: str, rule: str) -> list[str]:
    found = re.search(rf"^rule {rule}:$.*?^    resources: (.*?)$", shown, re.MULTILINE | re.DOTALL)
    assert found, rule
    return found[1].split(", ")


def test_on_a_cluster_each_model_job_asks_for_what_large_models_take(project: Project) -> None:
    asked = profile("slurm-gpu")["set-resources"]
    known = set(re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", "".join(map(Path.read_text, RULES)), re.MULTILINE))
    assert asked.keys() <= known
    for rule in MODEL_RULES - {"foundation"}:
        for resource in ("mem_mb", "runtime"):
            assert re.fullmatch(r"\d+ \* attempt", asked[rule][resource]), rule
    shown = project.run("--dry-run", "--profile", "workflow/profiles/slurm-gpu")
    assert {"mem_mb=80000", "runtime=1440", "gpu=1", "cpus_per_gpu=8", "nodes=1"} <= set(resources(shown, "train"))


@pytest.mark.parametrize(
    ("train", "told"),
    [({"gpu": 4}, "--processes 4 "), (training_on_several_nodes(), "--processes 8 --machines 2 ")],
    ids=["one node", "two nodes"],
)
def test_a_copy_of_the_profile_trains_on_several_gpus(project: Project, train: dict, told: str) -> None:
    mine = changed_profile(project.folder / "mine", "slurm-gpu", train)
    shown = project.run("--dry-run", "--printshellcmds", "--profile", str(mine))
    commands = re.findall(r"python -m sysdpo train .*", shown)
    assert commands
    assert all(told in command for command in commands)
    assert {f"gpu={train['gpu']}", "mem_mb=80000"} <= set(resources(shown, "train"))
    assert "gpu=1" in resources(shown, "sample")


@pytest.mark.parametrize("name", ["slurm", "slurm-gpu"])
def test_the_cluster_profiles_try_again_and_say_where_logs_are(name: str) -> None:
    settings = profile(name)
    assert settings["executor"] == "slurm"
    assert settings["retries"] >= 1
    assert settings["slurm-logdir"] == "results/logs/slurm"
    for switch in ("rerun-incomplete", "show-failed-logs", "slurm-keep-successful-logs"):
        assert settings[switch] is True
    assert settings["latency-wait"] >= 30


def test_a_system_shares_its_sampling_and_evaluation_among_jobs(project: Project) -> None:
    whole = rules(project.planned())
    project.edit(3, "trajectories", "shards")
    project.edit(2, "evaluation", "shards")
    planned = project.planned()
    evaluations = whole["evaluate"]
    shared = Counter(sample_shard=3, gather_samples=1, evaluate_shard=2 * evaluations, gather_evaluation=evaluations)
    assert rules(planned) == whole - Counter(sample=1, evaluate=evaluations) + shared

    project.run()
    run = project.folder / "results/runs/progressive_images/0"
    assert (run / "trajectories.parquet").read_text() == " ".join(
        f"trajectories.{number}-of-3.parquet" for number in (1, 2, 3)
    )
    assert (run / "direct/evaluation/metrics.parquet").read_text() == "evaluation.1-of-2 evaluation.2-of-2"
    logs = project.folder / "results/logs/progressive_images/0"
    assert (logs / "sample.2-of-3.log").read_text() == "sample begins, part 2/3\n"
    assert (logs / "direct/evaluate.1-of-2.log").read_text() == "evaluate begins, part 1/2\n"
    assert not list(run.rglob("*-of-*"))  # the shards are gone, and ...
    assert project.planned() == []  # ... not missed

    project.edit(7, "evaluation", "samples_per_prompt")
    assert rules(project.planned())["evaluate_shard"] == 2 * evaluations
    assert "sample_shard" not in rules(project.planned())


def test_what_the_shards_depend_on_makes_them_again(project: Project) -> None:
    project.edit(3, "trajectories", "shards")
    project.run()
    project.edit(0.31, "foundation", "writer", "alike")
    assert rules(project.planned())["sample_shard"] == 3
    project.run()
    assert project.planned() == []
    project.edit(9, "trajectories", "samples_per_prompt")
    planned = rules(project.planned())
    assert planned["sample_shard"] == 3
    assert planned["gather_samples"] == 1


@pytest.mark.parametrize(("before", "after"), [(3, 2), (3, 1), (1, 3)])
def test_another_number_of_jobs_that_sample_makes_everything_anew(project: Project, before: int, after: int) -> None:
    target = f"{RUN}/trajectories.parquet"
    project.edit(before, "trajectories", "shards")
    project.run(target)
    project.edit(after, "trajectories", "shards")
    assert rules(project.planned(target)) == jobs("sample", "gather_samples", after)
    project.run(target)
    assert project.planned(target) == []


def test_the_number_of_jobs_that_evaluate_is_no_reason_to_train_again(finished: Project) -> None:
    finished.edit(2, "evaluation", "shards")
    planned = rules(finished.planned())
    assert planned["evaluate_shard"] == 2 * len(finished.settings["methods"])
    assert "train" not in planned


def test_given_preferences_are_read_once_and_nothing_is_sampled_for_them(project: Project) -> None:
    project.config = project.config | {"seeds": [0, 1], "experiments": {}}
    project.config = project.config | {"claims": None}
    project.edit({"before": {"objective": "none"}, "sampling": DATASET}, "methods")
    project.edit(["before"], "baselines")
    project.edit({}, "ablations")
    planned = rules(project.planned())
    assert planned["dataset"] == 1
    assert planned["train"] == 2
    assert not {"sample", "score", "pair"} & set(planned)
    project.run()
    folder = project.folder / "results/runs/progressive_images/dataset"
    assert {path.name for path in folder.iterdir()} == {"trajectories.parquet", "pairs.parquet"}
    assert project.planned() == []


def test_methods_with_sampled_and_given_preferences_stand_side_by_side(project: Project) -> None:
    project.edit(project.settings["methods"] | {"sampling": DATASET}, "methods")
    planned = rules(project.planned())
    assert planned["dataset"] == planned["sample"] == planned["score"] == planned["pair"] == 1


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ([], ""),
        (["train:gpu=1"], ""),
        (["train:processes=2"], ", processes 2"),
        (["train:gpu=4"], ", processes 4"),
        (["train:gpu=8", "train:nodes=2"], ", processes 8, machines 2"),
    ],
)
def test_a_training_has_a_process_for_every_gpu(project: Project, resources: list[str], told: str) -> None:
    log = "results/logs/progressive_images/0/direct/train.log"
    target = "results/runs/progressive_images/0/direct/training"
    project.run(target, *(["--set-resources", *resources] if resources else []))
    assert (project.folder / log).read_text() == f"train begins{told}\n"
    assert project.planned(target) == []


def test_a_job_that_failed_asks_for_more(project: Project) -> None:
    failed = project.snakemake("--cores", "1", "--scheduler", "greedy", "--retries", "1", STUB_FAILS="train")
    assert failed.returncode == 1
    asked = re.findall(r"rule train:.*? runtime=(\d+), mem_mb=(\d+)", failed.stdout + failed.stderr, re.DOTALL)
    assert asked[0] == ("120", "3000")
    assert ("240", "6000") in asked


@pytest.mark.parametrize("part", ["label", "meaning", "role"])
def test_what_a_row_is_called_trains_and_evaluates_nothing_again(finished: Project, part: str) -> None:
    finished.edit("rival" if part == "role" else "Everyone learns", "methods", "direct", part)
    planned = finished.planned()
    assert rules(planned)["describe"] == 1
    assert not MODEL_RULES & set(rules(planned))


def test_the_catalogs_test_is_the_scale_test() -> None:
    """`.test/` is what the workflow catalog runs."""
    options = ["--directory", ".test", "--configfile", ".test/config/config.yaml", "--dry-run", "--quiet", "rules"]
    command = [sys.executable, "-m", "snakemake", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^train +\d+$", done.stdout + done.stderr, re.MULTILINE)
