"""A SLURM cluster of this machine alone, for as long as a test takes; its GPUs are device files that do nothing.

It needs root, the programs of Debian's packages slurmctld, slurmd, slurm-client and munge, and an /etc/slurm that no
other cluster uses: Snakemake hides from `srun` any other place of its settings. All else lies in the test's own folder.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

SETTINGS = Path("/etc/slurm")
OWNER = "# a test's cluster, of the process "
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
PATIENCE = 30
"""Seconds for a daemon to come up or go down."""


def obstacle() -> str | None:
    """Why no cluster can be started here; None if one can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"these programs of SLURM are missing: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "only root can start SLURM's daemons"
    if (SETTINGS / "slurm.conf").exists() and not _is_of_a_dead_test((SETTINGS / "slurm.conf").read_text()):
        return f"{SETTINGS} belongs to another cluster"
    if not os.access(SETTINGS if SETTINGS.exists() else SETTINGS.parent, os.W_OK):
        return f"{SETTINGS} cannot be written"
    return None


def _is_of_a_dead_test(text: str) -> bool:
    owner = text.partition("\n")[0].removeprefix(OWNER)
    return owner.isdigit() and not Path("/proc", owner).exists()


@contextmanager
def cluster(folder: Path, *, nodes: int = 1, cores: int = 2, memory: int = 16000, gpus: int = 1) -> Iterator[None]:
    """`sbatch` and its like reach the cluster for as long as the block lasts.

    cores, memory (MB), gpus: of each node, whatever the machine has. Every daemon that was started is stopped and every
    file of settings taken away, however the block ends. RuntimeError with the daemons' last words if the cluster does
    not come up.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True)
    names = [f"node{number}" for number in range(nodes)]
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    munge = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "log", "pid", "seed")]
    with _installed(settings(folder, names, cores, memory, gpus)), ExitStack() as daemons:

        def start(*command: str) -> None:
            daemons.enter_context(_daemon(logs / f"{command[0]}.log", command))

        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge)
        _wait_for("", ["munge", "--no-input", f"--socket={folder}/munge.socket"], logs)
        start("slurmctld", "-D", "-c")
        for name in names:
            start("slurmd", "-D", "-c", "-N", name)
        _wait_for("idle\n" * nodes, ["sinfo", "--noheader", "--Node", "--format=%T"], logs)
        daemons.callback(_cancel_all)
        yield


def settings(folder: Path, names: list[str], cores: int, memory: int, gpus: int) -> dict[str, str]:
    """The files of settings by their names."""
    ports = _free_ports(1 + len(names))
    each = f"NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:{gpus}"
    nodes = "\n".join(f"NodeName={name} Port={port} {each}" for name, port in zip(names, ports[1:], strict=True))
    return {
        "slurm.conf": f"""{OWNER}{os.getpid()}
ClusterName=test
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
GresTypes=gpu
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""",
        "gres.conf": "AutoDetect=off\n" + "".join(f"Name=gpu File={device}\n" for device in DEVICES[:gpus]),
        "cgroup.conf": "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n",
    }


@contextmanager
def _installed(files: Mapping[str, str]) -> Iterator[None]:
    SETTINGS.mkdir(exist_ok=True)
    places = {SETTINGS / name: text for name, text in files.items()}
    before = {place: place.read_bytes() for place in places if place.exists() and place.name != "slurm.conf"}
    try:
        for place, text in places.items():
            place.write_text(text)
        yield
    finally:
        for place in places:
            place.unlink(missing_ok=True)
        for place, content in before.items():
            place.write_bytes(content)


@contextmanager
def _daemon(path: Path, command: Sequence[str]) -> Iterator[None]:
    with path.open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=path.parent)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(wanted: str, command: Sequence[str], logs: Path) -> None:
    """Until the command succeeds and prints what is wanted."""
    shown = ""
    for _ in range(PATIENCE * 2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        shown = done.stdout + done.stderr
        if done.returncode == 0 and wanted in done.stdout:
            return
        time.sleep(0.5)
    words = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in sorted(logs.iterdir()))
    raise RuntimeError(f"{command[0]} should say {wanted!r}, but says {shown.strip()!r}\n{words}")


def _cancel_all() -> None:
    """So that no job outlives the daemons."""
    subprocess.run(["scancel", "--me"], timeout=PATIENCE, check=False)
    for _ in range(PATIENCE * 2):
        left = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, timeout=PATIENCE, check=False)
        if not left.stdout.strip():
            return
        time.sleep(0.5)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
