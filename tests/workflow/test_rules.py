"""What every rule must declare, and the environments they run in."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pin
import pytest
import yaml
from project import REPOSITORY, Project

from sysdpo.run.cli import commands

SNAKEFILE = REPOSITORY / "workflow/Snakefile"
RULES = [SNAKEFILE.parent / path for path in re.findall(r'^include: "(.+)"$', SNAKEFILE.read_text(), re.MULTILINE)]
ENVIRONMENTS = sorted((REPOSITORY / "envs").glob("*.yaml"))


def rule_texts() -> dict[str, str]:
    """Every rule with a command, by name; a rule that builds on another has that one's text in front."""
    texts: dict[str, str] = {}
    for path in RULES:
        for block in re.split(r"^(?=rule |use rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            if inherited := re.match(r"use rule (\w+) as (\w+) with:", block):
                texts[inherited[2]] = texts[inherited[1]] + block
            else:
                texts[block.removeprefix("rule ").split(":", 1)[0]] = block
    return texts


@pytest.mark.parametrize("name", rule_texts())
def test_every_rule_declares_what_it_needs(name: str) -> None:
    text = rule_texts()[name]
    for directive in ("log", "benchmark", "conda", "shell"):
        assert re.search(rf"^    {directive}:$", text, re.MULTILINE), directive
    assert re.search(r"^    threads: 1$", text, re.MULTILINE)
    assert re.search(r"^        gpu=\d+,$", text, re.MULTILINE)
    for resource in ("mem_mb", "runtime"):
        assert re.search(rf"^        {resource}=growing\(\d+\),$", text, re.MULTILINE), resource


def command_of(name: str) -> str:
    """A step with its options, as every rule gives it to the function that makes the shell command of it."""
    shell = re.search(r'^    shell:\n        step\(\s*((?:"[^"\n]*"\s*)+)\)', rule_texts()[name], re.MULTILINE)
    assert shell, name
    return "".join(re.findall(r'"(.*)"', shell[1]))


def step_of(name: str) -> str:
    return command_of(name).split()[0]


def test_every_rule_is_one_command_whose_output_is_shown_and_logged(project: Project) -> None:
    shown = project.run("--dry-run", "--printshellcmds")
    commands = re.findall(r"^Shell command: (set .*)$", shown, re.MULTILINE)
    logs = re.findall(r"^    log: (.*)$", shown, re.MULTILINE)
    assert commands
    assert len(logs) == len(commands)
    for command, log in zip(commands, logs, strict=True):
        assert len(re.findall(r" python -m sysdpo [a-z]+ --config results/config\.yaml --", command)) == 1
        assert command.endswith(f" 2>&1 | tee -i {log} >&2")


@pytest.mark.parametrize("name", rule_texts())
def test_every_command_quotes_what_it_is_given(name: str) -> None:
    unquoted = re.findall(r"{([\w.]+)}", command_of(name))
    # Options with their values, made in the rules from numbers and quoted paths.
    assert set(unquoted) <= {f"params.{name}" for name in ("shard", "training", "processes", "scores", "which")}


@pytest.mark.parametrize("name", rule_texts())
def test_every_command_gives_its_step_the_options_it_knows(name: str) -> None:
    options = commands().commands[step_of(name)].params
    given = set(re.findall(r"--([a-z]+)", command_of(name))) | {"config"}
    assert {option.name for option in options if option.required} <= given <= {option.name for option in options}


def test_the_steps_without_models_need_no_torch() -> None:
    light = [step_of(name) for name, text in rule_texts().items() if "envs/results.yaml" in text]
    sources = "".join(inspect.getsource(commands().commands[step].callback) for step in light)
    modules = ["sysdpo.run.cli", *re.findall(r"from (sysdpo[\w.]*) import", sources)]
    absent = ["torch", "transformers", "diffusers", "peft", "accelerate"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environment_has_the_lock_s_pins_of_all_it_needs(path: Path) -> None:
    assert path.read_text() == pin.environment(path.stem)


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environment_pins_equal_the_lock(path: Path) -> None:
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert conda == ["python=3.11.7", "pip=25.3"]
    locked = pin.locked()
    assert locked["pip"] == "25.3"
    for requirement in pip["pip"]:
        name, version = requirement.split("==")
        assert locked[name] == version


def test_every_environment_is_used() -> None:
    named = set(re.findall(r'"\.\./\.\./envs/(\w+)\.yaml"', "".join(path.read_text() for path in RULES)))
    assert named == {path.stem for path in ENVIRONMENTS} == set(pin.IMPORTED)


@pytest.mark.skipif(shutil.which("conda") is None, reason="no conda on this machine")
def test_a_dry_run_finds_the_conda_environments(project: Project) -> None:
    shown = project.run("--dry-run", "--use-conda")
    for path in ENVIRONMENTS:
        assert f"Conda environment envs/{path.name} will be created." in shown.replace("workflow/rules/../../", "")
