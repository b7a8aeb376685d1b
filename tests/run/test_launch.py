"""Launching several processes, with coins for models."""

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coin_system import CONFIG
from steps import Steps

from sysdpo.base.devices import process_state
from sysdpo.base.errors import UserError
from sysdpo.run.cli import main


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Everything before training; what is launched finds the coins too."""
    support = Path(__file__).parents[1] / "support"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(support), os.environ.get("PYTHONPATH", "")]))
    steps = Steps(tmp_path / "coins", CONFIG)
    steps.prepare()
    return steps


def change(run: Steps, **training: Any) -> None:
    config = copy.deepcopy(CONFIG)
    config["systems"]["coins"]["training"] |= training
    run.write_config(config)


def rows(training: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (training / "training.jsonl").read_text().splitlines()]


def test_later_rounds_learn_from_what_all_processes_have_sampled(steps: Steps, tmp_path: Path) -> None:
    change(steps, rounds=2, steps=8)
    logs = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        assert steps("train", method="direct", processes=processes, output=output) == 0
        logs.append(rows(output))
    assert len(logs[0]) == len(logs[1]) == 16
    for alone, together in zip(*logs, strict=True):
        del alone["seconds"], together["seconds"]
        assert together == pytest.approx(alone, abs=1e-5)
    assert logs[0][8]["margin"] == 0.0 != logs[0][7]["margin"]


def test_what_is_wrong_is_said_once_and_nothing_is_left(
    steps: Steps, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change(steps, batch_size=3)
    capfd.readouterr()
    assert steps("train", method="direct", processes=2, output=tmp_path / "made") == 2
    said = capfd.readouterr().err
    assert said == "sysdpo train: batch_size: 3 should be a multiple of the 2 processes\n"
    assert [path.name for path in tmp_path.iterdir()] == ["coins"]


def test_a_process_that_dies_ends_the_step(steps: Steps, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "coin_killer.py").write_text(
        "import os, signal\n"
        "from coin_system import Coins\n"
        "def build(settings):\n"
        "    if os.environ.get('RANK') == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return Coins(settings)\n"
    )
    os.environ["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"  # put back with the fixture's monkeypatch
    config = copy.deepcopy(CONFIG)
    config["systems"]["coins"]["factory"] = "coin_killer:build"
    steps.write_config(config)
    with pytest.raises(SystemExit) as stopped:
        steps("train", method="direct", processes=2, output=tmp_path / "made")
    assert stopped.value.code == 1
    assert "process 1 of 2 ended with exit code -9" in capfd.readouterr().err
    assert not (tmp_path / "made").exists()


def test_launchers_on_several_machines_meet(steps: Steps, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    assert steps("train", method="direct", output=tmp_path / "alone") == 0
    shared = {"processes": 2, "machines": 2, "rendezvous": meeting, "output": tmp_path / "together"}
    command = [sys.executable, "-m", "sysdpo", *steps.arguments("train", method="direct", **shared)]
    machines = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [machine.communicate(timeout=300)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert sum(each.count("20/20") for each in said) == 1
    for alone, together in zip(rows(tmp_path / "alone"), rows(tmp_path / "together"), strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"processes": 3, "machines": 2}, "--machines: 2 should divide --processes, 3"),
        ({"processes": 2, "machines": 4}, "--machines: 4 should divide --processes, 2"),
        ({"processes": 2, "machines": 2}, "--machines: 2 should be 1 outside of a SLURM job, or --rendezvous"),
        ({"processes": 0}, "--processes: 0 should be at least 1"),
    ],
)
def test_processes_that_cannot_be_started_are_refused(
    steps: Steps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, int],
    sentence: str,
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert main(steps.arguments("train", method="direct", output=tmp_path / "made", **options)) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"RANK": "0", "WORLD_SIZE": "1"}, ""),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29512"}, ""),
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, "RANK=1, WORLD_SIZE=2 in the environment is"),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, ""),
    ],
)
def test_a_lone_process_does_not_wait_for_others(left: dict[str, str], said: str) -> None:
    code = "from sysdpo.base.devices import process_state; state = process_state(); print(state.num_processes)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | left, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "1\n", done.stderr
    assert said in done.stderr
    assert bool(said) == ("sysdpo:" in done.stderr)


def test_processes_of_mpi_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    process_state.cache_clear()
    with pytest.raises(UserError, match="OMPI_COMM_WORLD_SIZE: 4 processes should be started by torchrun"):
        process_state()
    process_state.cache_clear()
