"""The command `sysdpo annotate`: what it prints and refuses, and the page of the documentation that tells of it."""

import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from annotation_server import PATHS, REPOSITORY, SYSTEM, Server, finished, post, rows, serving
from coin_system import CONFIG, Coins

from sysdpo import Benchmark, Node, System
from sysdpo.method.benchmark import outputs_of
from sysdpo.run.cli import main

PAGE = (REPOSITORY / "docs/annotate.md").read_text()
MINE = f"""
from pathlib import Path
from coin_system import CONFIG, Coins

def make():
    return Coins(CONFIG["systems"]["coins"]).system(Path("results/runs/{SYSTEM}/0/foundation"))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("run"))


@pytest.fixture
def start(run: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with serving(tmp_path, run / "results") as serve:
        yield serve


def test_the_command_reports_and_compares_methods(
    start: Callable[..., Server], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--between", "before,direct", "--pairs", "4", "--output", str(tmp_path / "judged.jsonl")]
    server = start(*options, "--port", "0", "--seed", "0")
    assert server.first.startswith("Judge 4 pairs at http://127.0.0.1:")
    for name in ("ann", "bob"):
        with urllib.request.urlopen(f"{server.url}?annotator={name}", timeout=20) as answer:
            text = answer.read().decode()
        while found := re.search(r'data-pair="(\w+)"', text):
            assert "direct" not in text  # nobody shall know
            text = post(server.url, "judgements", {"annotator": name, "pair": found[1], "preferred": "left"})[1]
    assert main(["annotate", str(run / "results"), "--report", *options]) == 0  # while the page is served
    report = capsys.readouterr().out
    assert report in server.stop()
    assert "ann has judged 4 pairs, 0 as ties; of the other 4, 4 for the left side." in report
    judged = [row["annotation"] for row in rows(tmp_path / "judged.jsonl")]
    counts = {name: sum(row[row["preferred"]]["method"] == name for row in judged) for name in ("before", "direct")}
    assert f"Preferred: before {counts['before']}, direct {counts['direct']}." in report
    first, second = (
        {row["pair"]: row["preferred"] for row in judged if row["annotator"] == name} for name in ("ann", "bob")
    )
    same = sum(first[pair] == second[pair] for pair in first)
    assert f"Agreement: {100 * same / 4:.1f} % on the 4 pairs" in report


def run_in(folder: Path, *words: str) -> str:
    """What a program prints; it must succeed."""
    command = [sys.executable, *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([PATHS, str(folder)])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_documentation_is_true(run: Path, tmp_path: Path, start: Callable[..., Server]) -> None:
    """Its commands as printed, but for the port, which may be taken; and its program on what they wrote."""
    (tmp_path / "results").symlink_to(run / "results")
    (tmp_path / "mine.py").write_text(MINE)
    commands = [shlex.split(block) for block in blocks("bash")]
    assert [words[:3] for words in commands] == [["sysdpo", "annotate", "results"]] * 2
    serving, reporting = (words[2:] for words in commands)
    server = start(*serving[1:], "--port", "0", results=serving[0])
    with urllib.request.urlopen(f"{server.url}?annotator=ann", timeout=20) as answer:
        text = answer.read().decode()
    while found := re.search(r'data-pair="(\w+)"', text):
        text = post(server.url, "judgements", {"annotator": "ann", "pair": found[1], "preferred": "right"})[1]
    assert "100 judgements" in server.stop()
    assert "ann has judged 100 pairs, 0 as ties" in run_in(tmp_path, "-m", "sysdpo", "annotate", *reporting)
    (program,) = blocks("python")
    assert 0 <= float(run_in(tmp_path, "-c", program).splitlines()[-1]) <= 1
    (row, *_) = rows(tmp_path / f"{SYSTEM}-judgements.jsonl")
    named = re.findall(r"^\| (`[^|]+`) \|", PAGE, re.MULTILINE)
    assert sorted(", ".join(named).replace("`", "").split(", ")) == sorted(row["annotation"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "RUN: 'nowhere' should be a run's results, a folder with config.yaml and runs"),
        (["results", "--system", "one_stage"], "--system: 'one_stage' should be one of ['two_stage_qa']"),
        (["results", "--seed", "7"], "--seed: 7 should be one of [0]"),
        (["results", "--pairs", "0"], "--pairs: 0 should be at least 1"),
        (["results", "--port", "70000"], "--port: 70000 should be at most 65535"),
        (["results", "--port", "TAKEN"], "--port: TAKEN cannot be used (Address already in use); give another one"),
        (["results", "--between", "before"], "--between: 'before' should be two methods, as in before,direct"),
        (["results", "--between", "before,drect"], "'drect' should be one of"),
        (["results", "--between", "before,only_first"], "--between: 'only_first' should have been evaluated, but '"),
        (["results", "--annotator", " "], "annotator: '' should be a name of 1 to 80 printable characters"),
        (["results", "--output", "judged.csv"], "--output: 'judged.csv' should be a .jsonl file"),
        (["results", "--output", "notes.jsonl"], "--output: 'notes.jsonl', line 1 should be a judgement as"),
        (["results", "--report"], "--output: 'two_stage_qa-judgements.jsonl' should be a file of judgements; there is"),
        ([], ""),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: list[str], said: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(run)
    (run / "notes.jsonl").write_text("mine\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["annotate", *(port if word == "TAKEN" else word for word in words)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("sysdpo annotate: " if words else "")
    assert printed.err.count("\n") == (1 if words else 0)
    assert said.replace("TAKEN", port) in printed.err
    assert (run / "notes.jsonl").read_text() == "mine\n"
    assert not list(run.glob("*judgements*"))


def test_what_is_judged_are_the_outputs_that_a_system_declares() -> None:
    nodes = [Node("draft", str, ["text"]), Node("answer", str, ["draft"]), Node("parsed", str, ["answer"])]
    declared = Benchmark(lambda: System(["text"], nodes, outputs=["answer"]), prompts=[], score=lambda: 0.0)
    assert outputs_of(declared) == ("answer",)
    assert outputs_of(Coins(CONFIG["systems"]["coins"])) == ("right",)


def test_without_its_libraries_it_says_how_to_get_them(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["annotate", str(run / "results")]) == 2
    assert capsys.readouterr().err.endswith("pip install 'sysdpo[annotate]'\n")
