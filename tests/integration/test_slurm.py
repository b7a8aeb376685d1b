"""The workflow on a real SLURM of one machine: the scale `test` with the project's own profile, and several nodes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import slurm
import yaml
from clone import REPOSITORY, clone
from project import changed_profile, make_project, training_on_several_nodes

PROFILE = Path("workflow/profiles/slurm")
PATIENCE = 900
"""Seconds for a run: some four minutes where nothing else runs; where jobs take longer, more pass until it is seen."""
# The cluster has no accounting. Of jobs submitted together it is asked after 2, 14 and 36 seconds; most take 8 to 12.
HERE = (
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"),
    *("--latency-wait", "20"),
)

STUB_RUN = "results/runs/progressive_images/0"

pytestmark = pytest.mark.skipif(slurm.obstacle() is not None, reason=str(slurm.obstacle()))

# Put before the program, to tell of every step what SLURM says of its job; if asked, what a process that the job starts
# on each of its nodes sees. Where a training has the memory TOO_LITTLE it fails as if that did not suffice.
RECORD = r"""
import json, os, re, subprocess, sys

job = {"arguments": sys.argv[1:], "job": os.environ.get("SLURM_JOB_ID"), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
job["python"] = sys.executable
if job["job"]:
    shown = subprocess.run(["scontrol", "show", "job", job["job"]], capture_output=True, text=True, check=True).stdout
    job |= dict(re.findall(r"(NumNodes|NumCPUs|MinMemoryNode|TresPerJob|TresPerNode)=(\S+)", shown))
if LOOK_AROUND and "--machines" in sys.argv:
    each = ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "sh", "-c"]
    done = subprocess.run([*each, "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"], capture_output=True, text=True)
    job["agents"] = sorted((done.stdout + done.stderr).splitlines())
if "RANK" not in os.environ and "--rendezvous" not in sys.argv:  # a step starts itself anew for each of its processes
    with open("jobs.jsonl", "a") as file:
        file.write(json.dumps(job) + "\n")
if sys.argv[1:2] == ["train"] and job.get("MinMemoryNode") == TOO_LITTLE:
    sys.exit("killed: out of memory")
"""


def record(program: Path, *, too_little: str = "", look_around: bool = False) -> None:
    text = RECORD.replace("TOO_LITTLE", repr(too_little)).replace("LOOK_AROUND", repr(look_around))
    program.write_text(text + program.read_text())


def jobs(folder: Path, step: str) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    return [row for row in rows if row["arguments"][0] == step]


def snakemake(folder: Path, *arguments: str, profile: Path = PROFILE) -> str:
    """What Snakemake prints; it must succeed, and nothing of it stays if it does not."""
    patient = [*slurm.WITH_THE_TEST, "timeout", "--kill-after=20", str(PATIENCE)]
    process = subprocess.Popen(
        [*patient, sys.executable, "-m", "snakemake", "--profile", str(profile), *HERE, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        shown, _ = process.communicate(timeout=PATIENCE + 30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, shown[-6000:]
    return shown


def left_behind(folder: Path) -> list[str]:
    """The processes that work in this folder, or have it in their command, and do not end within seconds."""
    for _ in range(10):
        if not (found := processes_of(folder)):
            break
        time.sleep(1)
    return found


def processes_of(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended just now
            command = (process / "cmdline").read_text().replace("\0", " ")
            if str(folder) in command or (process / "cwd").resolve().is_relative_to(folder):
                found.append(command)
    return found


# One method that is trained and one that is not.
FEWER = {
    "claims": None,
    "systems": {
        "progressive_images": None,
        "two_stage_qa": {
            "trajectories": {"shards": 2},
            "evaluation": {"win_rates_against": ["before"]},
            "baselines": ["before"],
            "ablations": None,
            "figures": ["comparison"],
        },
    },
}


def overlay() -> dict:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    methods = config["systems"]["two_stage_qa"]["methods"]
    over = json.loads(json.dumps(FEWER))
    over["systems"]["two_stage_qa"]["methods"] = dict.fromkeys(methods.keys() - {"before", "direct"})
    return over | {section: dict.fromkeys(config[section]) for section in ("experiments", "studies")}


class Run:
    """A copy of the project that the SLURM profile has made everything in."""

    def __init__(self, folder: Path):
        self.folder = clone(folder / "project")
        (self.folder / "fewer.yaml").write_text(yaml.safe_dump(overlay()))
        record(self.folder / "sysdpo/__main__.py", too_little="3000M")
        scale = "workflow/scales/test.yaml"
        self.results = self.folder / yaml.safe_load((self.folder / scale).read_text())["results"]
        self.seed = self.results / "runs/two_stage_qa/0"
        self.config = ("--configfile", scale, "fewer.yaml")
        options = (*self.config, "--set-resources", "train:processes=2", "train:cpus_per_task=2")
        with slurm.cluster(folder / "cluster", cores=4):
            self.shown = snakemake(self.folder, *options)
            self.again = snakemake(self.folder, *options, "--dry-run")

    def losses(self) -> list[float]:
        log = self.seed / "direct/training/training.jsonl"
        return [json.loads(line)["loss"] for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("slurm"))


def test_the_report_is_made_and_nothing_is_left_to_do(run: Run) -> None:
    assert (run.results / "report.html").stat().st_size > 10_000
    metrics = pd.read_csv(run.results / "metrics.csv")
    assert set(metrics["method"]) == {"before", "direct"}
    assert "Nothing to be done" in run.again


def test_what_runs_models_runs_in_jobs_and_what_takes_seconds_runs_here(run: Run) -> None:
    for step in ("prompts", "foundation", "sample", "gather", "score", "train", "evaluate", "metrics"):
        assert all(row["job"] for row in jobs(run.folder, step)), step
    for step in ("pair", "tables", "credit", "report"):
        assert [row["job"] for row in jobs(run.folder, step)] == [None], step


def test_jobs_have_the_python_and_the_settings_of_the_run(run: Run) -> None:
    rows = [json.loads(line) for line in (run.folder / "jobs.jsonl").read_text().splitlines()]
    assert {row["python"] for row in rows} == {sys.executable}
    written = (run.results / "config.yaml").stat().st_mtime
    assert written < (run.results / "runs/two_stage_qa/prompts.parquet").stat().st_mtime  # and by no job again


def test_a_training_that_fails_is_tried_again_with_more_memory(run: Run) -> None:
    tried = jobs(run.folder, "train")
    assert [row["MinMemoryNode"] for row in tried] == ["3000M", "6000M"]
    assert tried[0]["job"] != tried[1]["job"]
    assert len(run.losses()) == 4
    assert "killed: out of memory" in run.shown


def test_a_training_of_several_processes_gets_their_cores_and_no_job_a_gpu(run: Run) -> None:
    for row in jobs(run.folder, "train"):
        assert (row["NumNodes"], row["NumCPUs"], row["arguments"][-2:]) == ("1", "2", ["--processes", "2"])
    for row in jobs(run.folder, "train") + jobs(run.folder, "evaluate"):
        assert ("TresPerJob" in row, row["gpus"]) == (False, None)


def test_logs_are_where_the_profile_says(run: Run) -> None:
    own = run.results / "logs/two_stage_qa/0/direct"
    assert "4/4" in (own / "train.log").read_text()
    assert (own.parent / "sample.2-of-2.log").exists()
    around = run.folder / "results/logs/slurm"
    tried = [path.read_text() for path in sorted(around.glob("rule_train/two_stage_qa_0_direct/*.log"))]
    assert ["killed: out of memory" in text for text in tried] == [True, False]
    assert len(list(around.glob("rule_sample_shard/*/*.log"))) == 2
    assert not (run.folder / ".snakemake/slurm_logs").exists()


def test_shared_work_is_put_together(run: Run) -> None:
    trajectories = pd.read_parquet(run.seed / "trajectories.parquet")
    assert len(trajectories) == 16 * 6
    assert trajectories["trajectory_id"].is_unique
    parts = [row["arguments"][row["arguments"].index("--part") + 1] for row in jobs(run.folder, "sample")]
    assert sorted(parts) == ["1/2", "2/2"]
    assert not list(run.seed.rglob("*-of-*"))


def test_every_daemon_and_job_is_gone(run: Run) -> None:
    assert left_behind(run.folder.parent) == []
    assert not (slurm.SETTINGS / "slurm.conf").exists()


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of nodes that have more than this machine."""
    folder = tmp_path_factory.mktemp("nodes")
    with slurm.cluster(folder / "cluster", nodes=2, cores=32, memory=100_000, gpus=4):
        yield
    assert left_behind(folder) == []


def test_a_training_on_two_nodes_is_that_on_one(run: Run, two_nodes: None) -> None:
    on_one = run.losses()
    target = run.seed.relative_to(run.folder) / "direct/training"
    asked = ["processes=2", "nodes=2", "tasks=2", "mpi=srun", "mem_mb=4000"]
    resources = [f"train:{each}" for each in asked]
    snakemake(run.folder, str(target), "--force", *run.config, "--set-resources", *resources)
    job = jobs(run.folder, "train")[-1]
    assert (job["NumNodes"], job["arguments"][-4:]) == ("2", ["--processes", "2", "--machines", "2"])
    assert run.losses() == pytest.approx(on_one, abs=1e-5)


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of stubs in which nothing but training is to be done."""
    folder = tmp_path_factory.mktemp("stubs")
    project = make_project(folder, {"seeds": [0]})
    project.run(f"{STUB_RUN}/pairs.parquet")
    record(folder / "sysdpo/__main__.py", look_around=True)
    return folder


ALL = "0,1,2,3"
"""The GPUs of a node."""


@pytest.mark.parametrize(
    ("method", "train", "expected"),
    [
        (
            *("direct", {"gpu": 4}),
            {"NumNodes": "1", "NumCPUs": "32", "TresPerJob": "gres:gpu:4", "options": "--processes 4"},
        ),
        (
            *("separate", training_on_several_nodes()),
            {"NumNodes": "2", "NumCPUs": "64", "TresPerJob": "gres:gpu:8", "TresPerNode": "gres:gpu:4"}
            | {"options": "--processes 8 --machines 2", "agents": [f"node1 {ALL}", f"node2 {ALL}"]},
        ),
    ],
    ids=["one node", "two nodes"],
)
def test_a_training_on_several_gpus_gets_them_with_their_cores(
    two_nodes: None, paired: Path, tmp_path: Path, method: str, train: dict, expected: dict
) -> None:
    mine = changed_profile(tmp_path / "mine", "slurm-gpu", train)
    snakemake(paired, f"{STUB_RUN}/{method}/training", profile=mine)
    (job,) = [row for row in jobs(paired, "train") if method in row["arguments"]]
    job["options"] = " ".join(job["arguments"][job["arguments"].index("--processes") :])
    expected = expected | {"MinMemoryNode": "80000M", "gpus": ALL}
    assert {key: job.get(key) for key in expected} == expected
