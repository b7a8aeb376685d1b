"""`sysdpo warm COMMAND…`: run a command whose `sysdpo` steps need not each import the model libraries anew.

A run of many short steps spends much of its time on imports. Here one process imports them once and stays for as
long as the command runs; each step of the command (Snakemake, say) hands it its arguments, directory, environment and
standard streams, and is forked from it. A step that is killed takes its fork along. What a step writes is the same
either way. A tool that measures processes, as Snakemake's `benchmark` does, sees a step's time but not its memory.
Steps with other numerics than this process, as `SYSDPO_NUMERICS` chooses them (default: portable), are not handed to
it.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence

from sysdpo.base import numerics
from sysdpo.base.errors import printable
from sysdpo.run.launch import WARM_ADDRESS

Run = Callable[[Sequence[str]], int]

MODULES = (
    *("sysdpo.method.training", "sysdpo.components.language", "sysdpo.components.diffusion"),
    *("sysdpo.applications.images.painter", "sysdpo.applications.small_llama", "sysdpo.report.run"),
)
"""What a warm process imports: whatever most steps need, with all that these import."""

STREAMS = (0, 1, 2)
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def run_step(arguments: Sequence[str]) -> int | None:
    """Have the warm process run a step and return its exit code; None without such a process of this interpreter."""
    interpreter, _, address = os.environ.get(WARM_ADDRESS, "").rpartition(":")
    # An environment of its own, a rule's conda env say, has libraries of its own; and libraries that are imported have
    # their numerics.
    if interpreter != f"{sys.prefix}:{numerics.chosen()}":
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with _reachable(address) as path:
                connection.connect(path)
        except OSError:
            return None
        socket.send_fds(connection, [b"\n"], STREAMS)
        job = {"arguments": list(arguments), "folder": os.getcwd(), "environment": dict(os.environ)}
        connection.sendall(json.dumps(job).encode() + b"\n")
        status = connection.recv(1)
    if not status:
        print(f"sysdpo {arguments[0]}: the step was killed; it may have needed more memory", file=sys.stderr)
        return 1
    return status[0]


def run_command(command: Sequence[str], run: Run) -> int:
    """Run a command whose steps are forked from this process, and return its exit code; 2 if it cannot be run.

    run: runs a step by its arguments and returns its exit code.
    """
    if not command or shutil.which(command[0]) is None:
        words = printable(" ".join(command))
        print(f"sysdpo warm: '{words}' should be a command, 'snakemake --cores all' for example", file=sys.stderr)
        return 2
    for name in MODULES:
        importlib.import_module(name)
    gc.freeze()
    folders = tempfile.TemporaryDirectory(prefix="sysdpo-")
    with folders as folder, _Server(os.path.join(folder, "socket"), run) as server:
        here = f"{sys.prefix}:{numerics.chosen()}:{server.server_address}"
        environment = numerics.shipped_environment() | {WARM_ADDRESS: here}
        with subprocess.Popen(command, env=environment, preexec_fn=_end_with_parent) as process:
            # The command ends its steps when it is told to stop; this process ends after it. An interrupt from the
            # terminal reaches the command by itself.
            signal.signal(signal.SIGINT, lambda *_: None)
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            while process.poll() is None:
                server.handle_request()
    return process.returncode


@contextlib.contextmanager
def _reachable(address: str) -> Iterator[str]:
    """A short path of a socket: the kernel allows 107 bytes, and the folder for temporary files may have more."""
    folder = os.open(os.path.dirname(address), os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(address)}"
    finally:
        os.close(folder)


def _end_with_parent() -> None:
    """Have the kernel end the command when this process ends, even if it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = sys.maxsize  # the command decides how many steps run at once
    timeout = 0.1

    def __init__(self, address: str, run: Run):
        self.run = run
        with _reachable(address) as path:
            super().__init__(path, _Step)
        self.server_address = address


class _Step(socketserver.BaseRequestHandler):
    """In the forked process: become the step, run it, send its exit code."""

    server: _Server

    def handle(self) -> None:
        _, streams, _, _ = socket.recv_fds(self.request, 1, len(STREAMS))
        with self.request.makefile("rb") as sent:
            job = json.loads(sent.readline())
        for stream, received in zip(STREAMS, streams, strict=True):
            os.dup2(received, stream)
            os.close(received)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Thread(target=self._follow, daemon=True).start()
        status = _run(self.server.run, job["arguments"], job["folder"], job["environment"])
        self.request.sendall(bytes([status]))

    def _follow(self) -> None:
        # Nothing more is ever sent: this ends when the process that asked for the step does.
        with contextlib.suppress(OSError):
            self.request.recv(1)
        os.kill(os.getpid(), signal.SIGTERM)


def _run(run: Run, arguments: Sequence[str], folder: str, environment: Mapping[str, str]) -> int:
    import torch

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if threads := environment.get("OMP_NUM_THREADS"):  # read when torch was imported, not since
        torch.set_num_threads(int(threads))
    try:
        return run(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
