"""Which devices this process has, and which other processes it works with.

A cluster says which GPUs a step may take, in `CUDA_VISIBLE_DEVICES`. Elsewhere Snakemake counts GPUs but gives none to
a job by number, and every step would take the first; so a step reserves those that it takes.
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
"""What every launcher of torch's sets for the processes that it starts."""

LEFT_BEHIND = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    *("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    *("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
)
"""What accelerate takes for a launcher's word. Clusters and containers set some of it for processes that are alone."""

OF_MPI = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}


def is_worker() -> bool:
    """Whether this is one of the processes that a launcher has started."""
    return LAUNCHED in os.environ


@cache
def process_state() -> "PartialState":
    """accelerate's view of this process: its device, its number, and how many there are. The first call joins them."""
    import torch
    from accelerate import PartialState

    if not is_worker():
        _forget_other_processes()
        reserve_gpus(1)
    # Without being told so, accelerate takes several processes without a GPU for so many lone ones.
    return PartialState(cpu=not torch.accelerator.is_available())


def _forget_other_processes() -> None:
    """Without a launcher nobody would come to the meeting that these variables speak of: it would be waited for.

    Raises `UserError` under mpirun, whose processes would all do the whole of the work.
    """
    found = {name: value for name in LEFT_BEHIND if (value := os.environ.pop(name, None)) is not None}
    if several := [name for name, value in found.items() if name in OF_MPI and value != "1"]:
        raise UserError(
            f"{several[0]}: {found[several[0]]} processes should be started by torchrun, or by --processes, instead of "
            "MPI's launcher, which this step knows nothing of"
        )
    if any(name.endswith("SIZE") and value != "1" for name, value in found.items()):
        said = ", ".join(f"{name}={value}" for name, value in found.items())
        tell(f"{said} in the environment is passed over, since no launcher has started this process")


VISIBLE = "CUDA_VISIBLE_DEVICES"

_held: list[IO[str]] = []
"""Locks last as long as the process has their files open."""


def reserve_gpus(count: int) -> None:
    """Restrict this process, and those it starts, to `count` GPUs that no other step on this machine has reserved.

    Nothing is done where somebody has chosen already, where there is no GPU, and where too few are free: then GPUs are
    shared. Raises `UserError` if the machine has GPUs, but not so many.
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
        # Anybody may write where temporary files lie: a link that waits there must not be followed.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+")
    except OSError:
        return None
    try:
        found = os.fstat(file.fileno())
        if found.st_uid == os.getuid() and stat.S_ISREG(found.st_mode):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
    except OSError:
        pass
    file.close()
    return None
