"""Which GPUs of a machine a step takes, so that steps beside it take others.

A cluster says so itself, in `CUDA_VISIBLE_DEVICES`. Elsewhere Snakemake counts GPUs but gives none to a job by number,
and every step would take the first.
"""

import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import IO

from sysdpo.errors import UserError

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
