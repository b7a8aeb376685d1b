"""The workflow on a real SLURM of one machine: the scale `test` with the project's own profile, and where GPUs go."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import slurm
import yaml
from project import make_project

REPOSITORY = Path(__file__).parents[2]
PROFILE = ("--profile", "workflow/profiles/slurm")
# The cluster has no accounting. Of jobs submitted together it is asked after 1 and 12 seconds; most take 10.
HERE = (
    *("--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"),
    *("--latency-wait", "20"),
)

STUB_RUN = "results/runs/progressive_images/0"

pytestmark = pytest.mark.skipif(slurm.obstacle() is not None, reason=str(slurm.obstacle()))

# Put before the program, to tell of every step what SLURM says of its job; from a job on several nodes also what a
# process that it starts on each of them sees. Where the memory is in SHORT, training fails as if it did not suffice.
RECORD = r"""
import json, os, re, subprocess, sys

job = {"arguments": sys.argv[1:], "job": os.environ.get("SLURM_JOB_ID"), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
job["python"] = sys.executable
if job["job"]:
    shown = subprocess.run(["scontrol", "show", "job", job["job"]], capture_output=True, text=True, check=True).stdout
    job |= dict(re.findall(r"(NumNodes|NumCPUs|MinMemoryNode|TresPerJob|TresPerNode)=(\S+)", shown))
if "--machines" in sys.argv:
    each = ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "sh", "-c"]
    done = subprocess.run([*each, "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"], capture_output=True, text=True)
    job["agents"] = sorted((done.stdout + done.stderr).splitlines())
with open("jobs.jsonl", "a") as file:
    file.write(json.dumps(job) + "\n")
if sys.argv[1:2] == ["train"] and job.get("MinMemoryNode") in SHORT:
    sys.exit("killed: out of memory")
"""


def record(program: Path, short: tuple[str, ...] = ()) -> None:
    program.write_text(RECORD.replace("SHORT", repr(short)) + program.read_text())


def jobs(folder: Path, step: str) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    return [row for row in rows if row["arguments"][0] == step]


def snakemake(folder: Path, *arguments: str) -> str:
    """What Snakemake prints with the SLURM profile; it must succeed, and nothing of it stays if it does not."""
    process = subprocess.Popen(
        ["timeout", "--kill-after=20", "400", sys.executable, "-m", "snakemake", *PROFILE, *HERE, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        shown, _ = process.communicate(timeout=430)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, shown[-6000:]
    return shown


def left_behind(folder: Path) -> list[str]:
    """The processes that work in this folder, or have it in their command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended just now
            command = (process / "cmdline").read_text().replace("\0", " ")
            if str(folder) in command or (process / "cwd").resolve().is_relative_to(folder):
                found.append(command)
    return found


# One method that is trained and one that is not.
FEWER = {
    "systems": {
        "progressive_images": None,
        "two_stage_qa": {
            "trajectories": {"shards": 2},
            "evaluation": {"win_rates_against": ["before"]},
            "baselines": ["before"],
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
        self.folder = folder / "project"
        for name in ("sysdpo", "workflow", "envs"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, self.folder / name, ignore=ignored)
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(REPOSITORY / name, self.folder)
        (self.folder / "fewer.yaml").write_text(yaml.safe_dump(overlay()))
        record(self.folder / "sysdpo/__main__.py", short=("3000M",))
        scale = "workflow/scales/test.yaml"
        self.results = self.folder / yaml.safe_load((self.folder / scale).read_text())["results"]
        self.seed = self.results / "runs/two_stage_qa/0"
        options = ("--configfile", scale, "fewer.yaml", "--resources", "gpu=1", "--set-resources", "train:gpu=1")
        with slurm.cluster(folder / "cluster"):
            self.shown = snakemake(self.folder, *options)
            self.again = snakemake(self.folder, *options, "--dry-run")


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
    assert len((run.seed / "direct/training/training.jsonl").read_text().splitlines()) == 4
    assert "killed: out of memory" in run.shown


def test_a_job_that_asks_for_a_gpu_gets_it(run: Run) -> None:
    for row in jobs(run.folder, "train"):
        assert (row["TresPerJob"], row["gpus"]) == ("gres:gpu:1", "0")
    for row in jobs(run.folder, "evaluate"):
        assert ("TresPerJob" in row, row["gpus"]) == (False, None)


def test_logs_are_where_the_profile_says(run: Run) -> None:
    own = run.results / "logs/two_stage_qa/0/direct"
    assert "4/4" in (own / "train.log").read_text()
    assert (own.parent / "sample/2-of-2.log").exists()
    around = run.folder / "results/logs/slurm"
    tried = [path.read_text() for path in sorted(around.glob("rule_train/two_stage_qa_0_direct/*.log"))]
    assert ["killed: out of memory" in text for text in tried] == [True, False]
    assert len(list(around.glob("rule_sample_part/*/*.log"))) == 2
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
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of stubs in which nothing but training is to be done."""
    folder = tmp_path_factory.mktemp("stubs")
    project = make_project(folder, {"seeds": [0]})
    project.run(f"{STUB_RUN}/pairs.parquet")
    record(folder / "sysdpo/__main__.py")
    return folder


@pytest.mark.parametrize(
    ("method", "resources", "expected"),
    [
        (
            *("direct", ["train:gpu=2", "train:cpus_per_gpu=1"]),
            {"NumNodes": "1", "NumCPUs": "2", "TresPerJob": "gres:gpu:2", "gpus": "0,1", "options": "--processes 2"},
        ),
        (
            "separate",
            [
                *("train:gpu=4", "train:nodes=2", "train:tasks_per_node=2", "train:mpi=srun"),
                "train:slurm_extra='--gpus-per-node=2'",
            ],
            {"NumNodes": "2", "NumCPUs": "4", "TresPerJob": "gres:gpu:4", "TresPerNode": "gres:gpu:2", "gpus": "0,1"}
            | {"options": "--processes 4 --machines 2", "agents": ["node0 0,1", "node1 0,1"]},
        ),
        (
            *("only_writer", ["train:processes=2", "train:cpus_per_task=2"]),
            {"NumNodes": "1", "NumCPUs": "2", "gpus": None, "options": "--processes 2"},
        ),
    ],
    ids=["one node", "two nodes", "no GPU"],
)
def test_a_training_of_several_processes_gets_its_gpus_and_cores(
    paired: Path, tmp_path: Path, method: str, resources: list[str], expected: dict
) -> None:
    with slurm.cluster(tmp_path / "cluster", nodes=2, gpus=2):
        snakemake(paired, f"{STUB_RUN}/{method}/training", "--set-resources", *resources)
    (job,) = [row for row in jobs(paired, "train") if method in row["arguments"]]
    job["options"] = " ".join(job["arguments"][job["arguments"].index("--processes") :])
    assert {key: job.get(key) for key in expected} == expected
