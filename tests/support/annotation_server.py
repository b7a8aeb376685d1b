"""`sysdpo annotate` as a process of its own, on a small run, and what it is sent and writes."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coin_system import CONFIG
from steps import Steps

REPOSITORY = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests/support")])
SYSTEM = "two_stage_qa"
"""What the page of the documentation calls its system; here two coins have that name."""


def finished(root: Path) -> Path:
    """The folder, with the results of a run of coins in it; every prompt has heads and tails to compare."""
    described = CONFIG["systems"]["coins"] | {"prompts": {"train": 120, "validation": 2, "test": 30}}
    config = {"systems": {SYSTEM: described}}
    steps = Steps(root / "results", config)
    steps.prepare()
    for method in ("before", "direct"):
        if method == "direct":
            assert steps("train", method=method) == 0
        assert steps("evaluate", method=method) == 0
    steps.write_config(config | {"numerics": "native"})  # not this process's
    return root


class Server:
    """`sysdpo annotate` as a process of its own."""

    def __init__(self, folder: Path, *options: str, code: str = ""):
        start = ["-c", code] if code else ["-m", "sysdpo"]
        self.process = subprocess.Popen(
            [sys.executable, *start, "annotate", *options],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": PATHS},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.first)
        assert found, self.process.communicate()[1]
        self.url, self.port = found[0], found[1]

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL

    def stop(self) -> str:
        """As Ctrl-C does; returns what is printed in the end."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        assert (self.process.returncode, err) == (0, "")
        return out


@contextmanager
def serving(folder: Path, results: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts the command there, on these results if not told of others; all end with the block."""
    servers: list[Server] = []

    def serve(*options: str, results: Any = results, code: str = "") -> Server:
        servers.append(Server(folder, str(results), *options, code=code))
        return servers[-1]

    try:
        yield serve
    finally:
        for server in servers:
            server.process.kill()
            server.process.communicate()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def post(url: str, path: str, content: Any, **headers: str) -> tuple[int, str]:
    given = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, given), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
