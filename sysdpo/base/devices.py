"""Which devices this process has, and which other processes it works with.

A cluster says in `CUDA_VISIBLE_DEVICES` which GPUs a step may use. Elsewhere Snakemake counts GPUs but assigns none
to a job, and every step would use the first; so a step reserves the GPUs it uses.
"""

import fcntl
import os
import stat
import tempfile
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sysdpo.base.errors import UserError, tell

if TYPE_CHECKING:
    from accelerate import PartialState

LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Set by every launcher of torch for the processes that it starts."""

LEFT_BEHIND = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    *("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    *("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
)
"""Variables that make accelerate expect a launcher. Clusters and containers set some of them for single processes."""

OF_MPI = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}


def is_worker() -> bool:
    """Whether this is one of the processes that a launcher has started."""
    return LAUNCHED in os.environ


@cache
def process_state() -> "PartialState":
    """accelerate's view of this process: its device, rank and number of processes. The first call joins them."""
    import torch
    from accelerate import PartialState

    if not is_worker():
        _forget_other_processes()
        reserve_gpus(1)
    # accelerate must be told that there is no GPU, or it takes several processes for separate single ones.
    return PartialState(cpu=not torch.accelerator.is_available())


def _forget_other_processes() -> None:
    """Clear the variables in `LEFT_BEHIND`: without a launcher, accelerate would wait for processes that never join.

    Raises `UserError` under mpirun, where every process would do all of the work.
    """
    removed = {name: value for name in LEFT_BEHIND if (value := os.environ.pop(name, None)) is not None}
    if several := [name for name, value in removed.items() if name in OF_MPI and value != "1"]:
        raise UserError(
            f"{several[0]}: {removed[several[0]]} processes should be started by torchrun, or by --processes, instead "
            "of MPI's launcher, which this step knows nothing of"
        )
    if any(name.endswith("SIZE") and value != "1" for name, value in removed.items()):
        names_and_values = ", ".join(f"{name}={value}" for name, value in removed.items())
        tell(f"{names_and_values} in the environment is passed over, since no launcher has started this process")


VISIBLE = "CUDA_VISIBLE_DEVICES"

_held: list[IO[str]] = []
"""A lock lasts as long as this process has its file open."""


def reserve_gpus(count: int) -> None:
    """Restrict this process, and those it starts, to `count` GPUs that no other step on this machine has reserved.

    Does nothing if `CUDA_VISIBLE_DEVICES` is set, if there is no GPU, or if too few are free: then GPUs are shared.
    Raises `UserError` if the machine has GPUs, but fewer than `count`.
    """
    import torch

    present = torch.cuda.device_count()
    if VISIBLE in os.environ or present == 0:
        return
    if count > present:
        raise UserError(f"--processes: {count} should be at most the number of this machine's GPUs, {present}")
    taken: dict[int, IO[str]] = {}
    for number in range(present):
        if len(taken) < count and (lock := _lock(number)):
            taken[number] = lock
    if len(taken) == count:
        _held.extend(taken.values())
        os.environ[VISIBLE] = ",".join(map(str, taken))
    else:
        for lock in taken.values():
            lock.close()


def _lock(number: int) -> IO[str] | None:
    """A lock on a GPU; None if another of the user's processes holds it, or the file is not the user's own."""
    path = Path(tempfile.gettempdir()) / f"sysdpo-{os.getuid()}-gpu-{number}.lock"
    try:
        # Anyone can write to the folder of temporary files, so a symbolic link must not be followed.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")
    except OSError:
        return None
    try:
        status = os.fstat(file.fileno())
        if status.st_uid == os.getuid() and stat.S_ISREG(status.st_mode):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
    except OSError:
        pass
    file.close()
    return None
