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
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "setpriv")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
PATIENCE = 60
"""Seconds for a daemon to come up or go down."""
WITH_THE_TEST = ("setpriv", "--pdeathsig", "TERM")
"""Put before a command: it is told to end when the process that started it has ended, however that came about."""


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
    file of settings taken away, however the block ends. RuntimeError if no cluster can be started here, or with the
    daemons' last words if it does not come up.
    """
    if why := obstacle():
        raise RuntimeError(why)
    logs = folder / "logs"
    logs.mkdir(parents=True)
    names = [f"node{number}" for number in range(1, nodes + 1)]
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    munge = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("key", "log", "pid", "seed")]
    with _installed(settings(folder, names, cores, memory, gpus)), ExitStack() as stack:
        daemons = []

        def start(*command: str) -> None:
            daemons.append(stack.enter_context(_daemon(logs / f"{command[0]}.log", command)))

        def wait_for(wanted: str, *command: str) -> None:
            if (shown := _shown_when(wanted, command, daemons)) is not None:
                words = [f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in sorted(logs.iterdir())]
                raise RuntimeError("\n".join([f"{command[0]} should say {wanted!r}, but says {shown!r}", *words]))

        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge)
        wait_for("", "munge", "--no-input", f"--socket={folder}/munge.socket")
        start("slurmctld", "-D", "-c")
        for name in names:
            start("slurmd", "-D", "-c", "-N", name)
        wait_for("idle\n" * nodes, "sinfo", "--noheader", "--Node", "--format=%T")
        stack.callback(_cancel_all)
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
    # Beside a slurm.conf, which is a dead test's then, the others are its too.
    kept = [place for place in places if place.exists() and not (SETTINGS / "slurm.conf").exists()]
    before = {place: place.read_bytes() for place in kept}
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
def _daemon(path: Path, command: Sequence[str]) -> Iterator[subprocess.Popen]:
    with path.open("a") as log:
        process = subprocess.Popen([*WITH_THE_TEST, *command], stdout=log, stderr=log, cwd=path.parent)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _shown_when(wanted: str, command: Sequence[str], daemons: Sequence[subprocess.Popen]) -> str | None:
    """None once the command prints what is wanted; what it prints instead when time is up or a daemon has ended."""
    end = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode == 0 and wanted in done.stdout:
            return None
        if time.monotonic() > end or any(daemon.poll() is not None for daemon in daemons):
            return (done.stdout + done.stderr).strip()
        time.sleep(0.5)


def _cancel_all() -> None:
    """So that no job outlives the daemons."""
    subprocess.run(["scancel", "--me"], timeout=PATIENCE, check=False)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
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
