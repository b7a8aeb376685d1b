"""Steps that are forked from a warm process: they are the steps, with their folder, environment, streams, exit code."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sysdpo.run import cli, warm

DRIVER = """
import os, sys, time
from pathlib import Path
from sysdpo.base import numerics
numerics.choose("portable")
from sysdpo.run import cli, warm

def main(arguments):
    what, *rest = arguments
    if what == "tell":
        print(os.getppid() == server, os.getcwd(), os.environ.get("MARK"), rest, sys.stdin.read().strip())
        print("to stderr", file=sys.stderr)
    elif what == "leave":
        sys.exit(int(rest[0]))
    elif what == "break":
        raise ValueError("broken")
    elif what == "sleep":
        Path(rest[0]).write_text(str(os.getpid()))
        time.sleep(60)
    return 0

warm.MODULES, server = (), os.getpid()
sys.exit(warm.run_command(sys.argv[1:], main))
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a warm bash script prints; `$STEP` in it is `python -m sysdpo`, with the driver's steps."""
    step = f"STEP='{sys.executable} -m sysdpo'\n"
    return subprocess.run(
        [sys.executable, "-c", DRIVER, "bash", "-c", step + script],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=120,
    )


def test_a_step_is_forked_and_has_its_own_folder_environment_and_streams(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    done = run("cd below; echo given | MARK=here $STEP tell 'one two' > out 2> err", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "below" / "out").read_text() == f"True {tmp_path / 'below'} here ['one two'] given\n"
    assert (tmp_path / "below" / "err").read_text() == "to stderr\n"


def test_exit_codes_are_the_steps_and_the_commands_own(tmp_path: Path) -> None:
    done = run("$STEP tell < /dev/null > out; echo $?; $STEP leave 2; echo $?; $STEP break; echo $?; exit 7", tmp_path)
    assert done.stdout.split() == ["0", "2", "1"]
    assert "ValueError: broken" in done.stderr
    assert done.returncode == 7


def test_a_killed_step_takes_its_fork_along(tmp_path: Path) -> None:
    script = """
    $STEP sleep pid & step=$!
    until [ -s pid ]; do sleep 0.1; done
    kill $step; wait $step
    for try in $(seq 100); do kill -0 $(cat pid) 2> /dev/null || { echo gone; exit; }; sleep 0.1; done
    """
    assert run(script, tmp_path).stdout == "gone\n"


def test_a_killed_fork_is_told_and_fails_the_step(tmp_path: Path) -> None:
    script = """
    $STEP sleep pid & step=$!
    until [ -s pid ]; do sleep 0.1; done
    kill -9 $(cat pid); wait $step; echo $?
    """
    done = run(script, tmp_path)
    assert done.stdout == "1\n"
    assert "sysdpo sleep: the step was killed" in done.stderr


def test_a_killed_warm_process_takes_its_command_along(tmp_path: Path) -> None:
    script = "echo $$ > pid; sleep 60 & wait"
    process = subprocess.Popen([sys.executable, "-c", DRIVER, "bash", "-c", script], cwd=tmp_path)
    file = tmp_path / "pid"
    wait_for(lambda: file.exists() and file.read_text().endswith("\n"))
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{file.read_text().strip()}").exists())


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_long_folder_for_temporary_files_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    done = run("$STEP tell < /dev/null", tmp_path)
    assert done.stdout.startswith("True "), done.stderr


def test_many_steps_at_once(tmp_path: Path) -> None:
    script = "for n in $(seq 8); do $STEP leave $n & steps+=($!); done; for n in ${steps[@]}; do wait $n; echo $?; done"
    assert run(script, tmp_path).stdout.split() == [str(number) for number in range(1, 9)]


@pytest.mark.parametrize("command", [[], ["no-such-command", "--cores", "2"]])
def test_what_is_no_command_is_refused_in_one_sentence(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert warm.run_command(command, cli.main) == 2
    assert capfd.readouterr().err == (
        f"sysdpo warm: '{' '.join(command)}' should be a command, 'snakemake --cores all' for example\n"
    )


@pytest.mark.parametrize("of", [f"{sys.prefix}:portable", f"{sys.prefix}:native", "/another/environment:portable"])
def test_without_a_warm_process_of_this_interpreter_and_numerics_a_step_runs_by_itself(
    of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(warm.WARM_ADDRESS, raising=False)
    assert warm.run_step(["validate"]) is None
    monkeypatch.setenv(warm.WARM_ADDRESS, f"{of}:{tmp_path / 'nobody'}")
    assert warm.run_step(["validate"]) is None
