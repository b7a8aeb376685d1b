"""Several processes at one training: PyTorch's elastic launch starts them, accelerate joins them.

On one machine this process is their launcher. On several, inside a SLURM job, `srun` starts a launcher on each. Any
other launcher that uses PyTorch's, `torchrun` say, may start the step's processes too.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from sysdpo.base.devices import is_worker, reserve_gpus
from sysdpo.base.errors import UserError
from sysdpo.base.settings import at_least

FIRST_PORT, PORTS = 20_000, 20_000

WARM_ADDRESS = "SYSDPO_WARM"
"""Environment variable of a warm command's steps: the interpreter's prefix, the numerics and the socket's path, with
colons between them.
"""


def launch(arguments: Sequence[str], processes: int, machines: int, rendezvous: str | None) -> None:
    """Run a step in several processes and wait for them.

    arguments: of the command `sysdpo`. processes: their number, spread evenly over `machines`. rendezvous: `host:port`
    where the launchers of several machines meet; all must be given the same.

    Raises `UserError` with a process's own sentence if it ended with one, or if the processes cannot be started.
    """
    at_least("--processes", processes, 1)
    if not 1 <= machines <= processes or processes % machines:
        raise UserError(f"--machines: {machines} should divide --processes, {processes}")
    if machines > 1 and rendezvous is None:
        _launch_on_machines(arguments, machines)
    else:
        _launch_here(arguments, processes // machines, machines, rendezvous)


def _launch_on_machines(arguments: Sequence[str], machines: int) -> None:
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        raise UserError(
            f"--machines: {machines} should be 1 outside of a SLURM job, or --rendezvous HOST:PORT be given to this "
            "command on each of them"
        )
    # Snakemake's job steps take the variable away; then `srun` itself refuses what the job does not have.
    nodes = os.environ.get("SLURM_JOB_NUM_NODES")
    if nodes is not None and int(nodes) < machines:
        raise UserError(f"--machines: {machines} should be at most the number of the SLURM job's nodes, {nodes}")
    # The job's script runs on one of its nodes. Jobs that share a node must not meet at the same port.
    meeting = f"{socket.gethostname()}:{FIRST_PORT + int(job) % PORTS}"
    once = [
        f"--nodes={machines}",
        f"--ntasks={machines}",
        "--ntasks-per-node=1",
        "--cpu-bind=none",
        "--kill-on-bad-exit",
    ]
    step = [sys.executable, "-m", "sysdpo", *arguments, "--rendezvous", meeting]
    status = subprocess.run(["srun", *once, *step], check=False).returncode
    if status:
        # Each launcher has said why.
        raise SystemExit(2 if status == 2 else 1)


def _launch_here(arguments: Sequence[str], processes: int, machines: int, rendezvous: str | None) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What they would say of a process that fails is said here in one sentence.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    reserve_gpus(processes)
    os.environ.pop(WARM_ADDRESS, None)  # a process of several is no step to hand to another
    config = LaunchConfig(
        min_nodes=machines,
        max_nodes=machines,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        run_id=os.environ.get("SLURM_JOB_ID", "none") if rendezvous else str(uuid.uuid4()),
        local_addr=None if rendezvous else "localhost",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "sysdpo", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == 2 and "message" in failure.error_file_data:
            raise UserError(failure.message) from error
        print(f"process {rank} of {processes * machines} ended with exit code {failure.exitcode}", file=sys.stderr)
        raise SystemExit(1) from error


def tell_launcher(error: UserError) -> bool:
    """Pass the sentence to `launch`, which prints it once for all processes; False if there is no launcher."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE") if is_worker() else None
    if path is None:
        return False
    Path(path).write_text(json.dumps({"message": str(error)}))
    return True
