"""Steps on one machine take GPUs apart from each other."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sysdpo.base import devices
from sysdpo.base.devices import VISIBLE, reserve_gpus
from sysdpo.base.errors import UserError

# Another step, which holds its GPUs until its input ends.
OTHER = """
import sys, torch
from sysdpo.base.devices import reserve_gpus
torch.cuda.device_count = lambda: 4
import os
reserve_gpus(int(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four GPUs, of which nothing has been reserved."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(devices.tempfile, "tempdir", None)
    monkeypatch.setenv(VISIBLE, "")  # so that what the test sets is taken back
    monkeypatch.delenv(VISIBLE)
    yield
    for lock in devices._held:
        lock.close()
    devices._held.clear()


def other_step(count: int) -> tuple[subprocess.Popen[str], str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", OTHER, str(count)], **pipes)
    return process, process.stdout.readline().strip()


def test_a_step_takes_gpus_that_no_other_has_and_they_are_free_again_when_it_ends() -> None:
    process, theirs = other_step(2)
    reserve_gpus(1)
    assert (theirs, os.environ[VISIBLE]) == ("0,1", "2")
    process.communicate("")
    del os.environ[VISIBLE]
    reserve_gpus(3)
    assert os.environ[VISIBLE] == "0,1,3"


def test_gpus_are_shared_where_too_few_are_free() -> None:
    process, theirs = other_step(3)
    reserve_gpus(2)
    assert VISIBLE not in os.environ
    reserve_gpus(1)  # what the failed attempt had locked is free
    assert (theirs, os.environ[VISIBLE]) == ("0,1,2", "3")
    process.communicate("")


def test_what_a_cluster_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "3")
    reserve_gpus(2)
    assert os.environ[VISIBLE] == "3"


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="--processes: 5 should be at most the number of this machine's GPUs, 4"):
        reserve_gpus(5)


def test_nothing_is_done_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    reserve_gpus(8)
    assert VISIBLE not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_a_link_or_a_folder_where_the_lock_should_be_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / f"sysdpo-{os.getuid()}-gpu-0.lock").symlink_to(precious)
    (tmp_path / f"sysdpo-{os.getuid()}-gpu-1.lock").mkdir()
    reserve_gpus(1)
    assert os.environ[VISIBLE] == "2"
    assert precious.read_text() == "mine"
