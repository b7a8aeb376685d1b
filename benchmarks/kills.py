"""Whether a training that is killed ends, when it is started again, with the bytes of one that was not.

    python benchmarks/kills.py --kills 20

It makes a small system's models and preferences (the test scale's), trains by two methods without being disturbed, and
then again and again, each time killed (SIGKILL) once and started again: half of the kills at any moment from the start
of the process, half in the middle of the updates. Every file of the result is compared byte for byte; of
`training.jsonl` all but the `seconds`. Exits with 1 if anything differs.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from sysdpo.method.config import load_config, system_config
from sysdpo.method.scales import merged

REPOSITORY = Path(__file__).parents[1]
SYSTEM = "progressive_images"
UPDATES = 20
METHODS = {
    "direct": {"objective": "direct", "rounds": 2, "steps": UPDATES // 2},  # the second round samples anew
    "sampling": {"objective": "sampling", "steps": UPDATES, "candidates": {"count": 2, "refresh": 2}},
}


class Run:
    """The steps of a small system, each a process of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        scale = load_config(REPOSITORY / "config.yaml")
        scale = merged(scale, yaml.safe_load((REPOSITORY / "workflow/scales/test.yaml").read_text()))
        system = merged(system_config(scale, SYSTEM), {"methods": METHODS})
        self.models = list(system["foundation"])
        (folder / "config.yaml").write_text(yaml.safe_dump({"systems": {SYSTEM: system}}))

    def prepare(self) -> None:
        """Models, trajectories, scores and pairs."""
        self.step("prompts", output="prompts.parquet", seed=None)
        for model in self.models:
            self.step("foundation", model=model, output=f"foundation/{model}")
        given = {"prompts": "prompts.parquet", "foundation": "foundation"}
        self.step("sample", **given, output="trajectories.parquet")
        self.step("score", **given, trajectories="trajectories.parquet", output="scores.parquet")
        self.step("pair", scores="scores.parquet", output="pairs.parquet")

    def training(self, method: str, name: str) -> list[str]:
        """The command that trains it; a checkpoint after every update that may have one."""
        tables = {part: f"{part}.parquet" for part in ("prompts", "trajectories", "scores", "pairs")}
        places = {"foundation": "foundation", "output": f"{name}/training", "checkpoint": f"{name}/kept.pt"}
        every = {"checkpoint-every": "0"}
        return self.command("train", method=method, **tables, **places, **every)

    def command(self, step: str, **options: str | None) -> list[str]:
        """A step's command line, with the seed 0 unless `seed` says None."""
        given = {"config": "config.yaml", "system": SYSTEM, "seed": "0"} | options
        pairs = [(f"--{name}", value) for name, value in given.items() if value is not None]
        return [sys.executable, "-m", "sysdpo", step, *(word for pair in pairs for word in pair)]

    def step(self, step: str, **options: str | None) -> None:
        """Run one; it must succeed."""
        self.finish(self.command(step, **options))

    def finish(self, command: list[str]) -> str:
        """Run a command to its end; returns what it said."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return done.stderr

    def kill(self, command: list[str], when: Callable[[], bool]) -> bool:
        """Start a command and kill it as soon as `when` says so; False where it had ended by then."""
        with subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None and not when():
                time.sleep(0.002)
            process.kill()
        return process.returncode < 0

    def updates(self, name: str) -> int:
        """How many updates the training of this name has logged so far."""
        logs = list((self.folder / name).glob(".training-*/training/training.jsonl"))
        return logs[0].read_bytes().count(b"\n") if logs else 0

    def result(self, name: str) -> dict[str, bytes]:
        """What the training of this name has made, and whatever else lies there."""
        files = [path for path in (self.folder / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder / name)): _without_seconds(path) for path in files}


def _without_seconds(path: Path) -> bytes:
    if path.name != "training.jsonl":
        return path.read_bytes()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return json.dumps([{key: value for key, value in row.items() if key != "seconds"} for row in rows]).encode()


def after(seconds: float) -> Callable[[], bool]:
    """Says when that many seconds have passed from now on."""
    end = time.monotonic() + seconds

    def moment() -> bool:
        return time.monotonic() >= end

    moment.__doc__ = f"{seconds:.1f} s after its start"
    return moment


def in_the_middle(rng: random.Random, updates: Callable[[], int]) -> Callable[[], bool]:
    """Says when some time has passed after some update."""
    update, seconds, reached = rng.randrange(1, UPDATES), rng.uniform(0, 0.3), []

    def moment() -> bool:
        if not reached and updates() >= update:
            reached.append(time.monotonic() + seconds)
        return bool(reached) and time.monotonic() >= reached[0]

    moment.__doc__ = f"{seconds:.2f} s after update {update}"
    return moment


def main() -> None:
    """Kill, start again, compare."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    given = options.parse_args()
    rng = random.Random(given.seed)
    differing = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as made:
        run = Run(Path(made))
        run.prepare()
        took = {}
        for method in METHODS:
            started = time.monotonic()
            run.finish(run.training(method, f"{method}-whole"))
            took[method] = time.monotonic() - started
            print(f"{method}: {took[method]:.1f} s undisturbed", flush=True)
        for number in range(given.kills):
            method = list(METHODS)[number // 2 % len(METHODS)]
            name, expected = f"{method}-{number}", run.result(f"{method}-whole")
            command = run.training(method, name)
            moment = (
                in_the_middle(rng, partial(run.updates, name)) if number % 2 else after(rng.uniform(0, took[method]))
            )
            killed = run.kill(command, moment)
            logged = run.updates(name)
            said = run.finish(command)
            ours = run.result(name)
            unequal = sorted(key for key in ours.keys() | expected.keys() if ours.get(key) != expected.get(key))
            differing += bool(unequal)
            words = [f"killed with {logged} updates logged" if killed else "not reached", "checkpoint set aside"]
            print(
                f"{number + 1:2d} {method}, {moment.__doc__}: {', '.join(words[: 1 + ('begins anew' in said)])}; "
                + (f"DIFFERS in {unequal}" if unequal else "the same bytes"),
                flush=True,
            )
    print(f"{given.kills - differing} of {given.kills} ended with the same bytes")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
