"""`sysdpo plan` as a user calls it: what it prints and writes, what it refuses, and that it fetches nothing."""

import csv
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sysdpo.run.cli import main

REPOSITORY = Path(__file__).parents[2]
SMOLLM2 = {"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "max_new_tokens": 8}
LORA = {"r": 4, "target_modules": ["q_proj"]}
CONFIG: dict[str, Any] = {
    "seeds": [0],
    "systems": {
        "chat": {
            "factory": "sysdpo.applications.answers.settings:ChatRefinement",
            "data": {"source": "Intel/orca_dpo_pairs"},
            "prompts": {"train": 8, "validation": 2, "test": 4},
            "components": {name: SMOLLM2 | {"lora": LORA} for name in ("drafter", "refiner")},
            "scorer": {"model": "OpenAssistant/reward-model-deberta-v3-large-v2"},
            "trajectories": {"samples_per_prompt": 2},
            "training": {
                "steps": 2,
                "batch_size": 2,
                "learning_rate": {"drafter": 1e-4, "refiner": 1e-4},
                "chosen_weight": {"drafter": 0.0, "refiner": 0.0},
            },
            "methods": {
                "before": {"objective": "none"},
                "direct": {"objective": "direct"},
                "separate": {"objective": "separate"},
            },
            "evaluation": {"samples_per_prompt": 1},
        }
    },
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the plan should need no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "whole.yaml", CONFIG)


def write(path: Path, config: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(config))
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """The one sentence of a command that ends with 2."""
    assert main(["plan", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("sysdpo plan: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_table_has_a_line_for_each_rule_and_its_assumptions(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config), "--alone"]) == 0
    printed = capsys.readouterr().out
    lines = {" ".join(line.split("  ")[0].split()) for line in printed.splitlines()}
    assert {"sample", "score", "train direct, separate", "evaluate before, direct, separate"} <= lines
    for text in ("GPU-hours", "H100 80", "largest peak", "HuggingFaceTB/SmolLM2-135M-Instruct", "prompts assumed"):
        assert text in printed
    assert max(map(len, printed.split("In all")[0].splitlines())) <= 200


def test_the_file_is_whole_and_has_every_method(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "plan.csv"
    assert main(["plan", str(config), "--alone", "--csv", str(output)]) == 0
    with output.open() as stream:
        rows = {row["rule"]: row for row in csv.DictReader(stream)}
    assert {"train direct", "train separate", "evaluate before"} <= set(rows)
    assert all(None not in row and None not in row.values() for row in rows.values())
    assert rows["train direct"]["reference_bytes"] == "0"
    assert float(rows["train direct"]["flops"]) == float(rows["train separate"]["flops"]) > 1e9
    assert 0 < float(rows["sample"]["hours A100 40"]) < 0.1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(output.name)] == [output.name]


def test_scales_are_laid_one_over_the_other(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fewer = write(tmp_path / "fewer.yaml", {"systems": {"chat": {"methods": {"separate": None}}}})
    drafts = {"drafts": {"objective": "only_drafter"}}
    other = write(tmp_path / "other.yaml", {"systems": {"chat": {"methods": drafts}}})
    for arguments in (["--alone", config, fewer, other], ["--base", config, fewer, other]):
        assert main(["plan", *map(str, arguments)]) == 0
        printed = capsys.readouterr().out
        assert "train direct " in printed
        assert "train drafts " in printed
        assert "separate" not in printed


def test_a_missing_configuration_is_an_error(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"systems": {"chat": {"components": {"drafter": {"model": "some/model"}}}}}
    output = tmp_path / "plan.csv"
    message = refused(capsys, "--alone", config, write(tmp_path / "scale.yaml", unknown), "--csv", output)
    for text in ("systems.chat.components.drafter.model", "'some/model'", "config.json"):
        assert text in message
    assert not output.exists()


def test_a_configuration_that_is_not_here_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.yaml" in refused(capsys, tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(("option", "value"), [("--processes", 0), ("--prompt-tokens", -1), ("--processes", 3)])
def test_what_cannot_be_is_refused(config: Path, option: str, value: int, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, config, "--alone", option, value)
    assert str(value) in message
    assert "should be" in message


def is_cut(words: list[str], whole: list[str]) -> bool:
    """Whether a line is another one with columns left out."""
    left = iter(whole)
    return all(word in left for word in words)


def test_the_papers_scale_is_planned_in_little_memory(tmp_path: Path) -> None:
    output = tmp_path / "plan.csv"
    command = [sys.executable, "-m", "sysdpo", "plan", "workflow/scales/paper.yaml", "--csv", str(output)]
    with (tmp_path / "errors").open("w") as errors, (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=printed, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
    assert (status, (tmp_path / "errors").read_text()) == (0, "")
    assert used.ru_maxrss < 4 * 1024**2  # KiB
    (shown,) = re.findall(r"^    rule .*\n(?:    .*\n)+", (REPOSITORY / "docs/plan.md").read_text(), re.MULTILINE)
    lines = [line.split() for line in (tmp_path / "printed").read_text().splitlines()]
    assert [line for line in shown.splitlines() if not any(is_cut(line.split(), whole) for whole in lines)] == []
    with output.open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["system"] for row in rows} >= {"picture_series", "chat_refinement"}
    trained = [row for row in rows if row["rule"].startswith("train")]
    assert trained
    assert {row["reference_bytes"] for row in trained} == {"0"}
    largest = max(float(row["parameters"]) for row in trained)
    assert largest == pytest.approx(8.03e9 + 2.57e9 + 0.90e9, rel=0.02)  # Llama 3, SDXL, its encoders; one copy each
