"""The workflow with `--use-conda`, in a copy of the project that is installed nowhere: each rule in its environment."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pin
import pytest
import tiny_chat
import yaml
from clone import REPOSITORY, clone
from coin_system import CONFIG as COINS

SUPPORT = REPOSITORY / "tests" / "support"
# Made once: an environment's name follows from what it holds, so a new lock gets new ones.
KEPT = REPOSITORY / "build" / "conda"
SCALE = "workflow/scales/test.yaml"
MODEL_LIBRARIES = ["accelerate", "diffusers", "peft", "tokenizers", "torch", "transformers"]

# Put before the program, to tell of every step which python ran it, where its library lies and what it could import.
RECORD = f"""
import importlib.util, json, sys
import sysdpo

job = {{"step": sys.argv[1], "python": sys.executable, "prefix": sys.prefix, "library": sysdpo.__file__}}
job["found"] = [name for name in {MODEL_LIBRARIES} if importlib.util.find_spec(name)]
with open("jobs.jsonl", "a") as file:
    file.write(json.dumps(job) + "\\n")
"""

# A tokenizer as DeBERTa-v3's is on the hub, read as a scorer reads it.
SENTENCEPIECE = """
import json, sys
from pathlib import Path

import sentencepiece
from transformers import AutoTokenizer

folder, text = Path(sys.argv[1]), "the answer to the question is one that a model gave"
pieces = [f"--{name}_id={row} --{name}_piece=[{tag}]" for row, (name, tag) in enumerate(
    [("pad", "PAD"), ("bos", "CLS"), ("eos", "SEP"), ("unk", "UNK")])]
(folder / "text").write_text(text)
sentencepiece.SentencePieceTrainer.Train(
    f"--input={folder}/text --model_prefix={folder}/spm --vocab_size=40 --hard_vocab_limit=false --minloglevel=2 "
    + " ".join(pieces))
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "DebertaV2Tokenizer"}))
(folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
tokenizer = AutoTokenizer.from_pretrained(folder)
print(json.dumps([tokenizer.decode(tokenizer(text)["input_ids"]), type(tokenizer).__name__]))
"""


def rules() -> dict[str, tuple[str, str]]:
    """Of every rule with a command: its step and its environment."""
    found: dict[str, tuple[str, str]] = {}
    folder = REPOSITORY / "workflow"
    for included in re.findall(r'^include: "(.+)"$', (folder / "Snakefile").read_text(), re.MULTILINE):
        for block in re.split(r"^(?=rule |use rule )", (folder / included).read_text(), flags=re.MULTILINE)[1:]:
            if inherited := re.match(r"use rule (\w+) as (\w+) with:", block):
                found[inherited[2]] = found[inherited[1]]
            else:
                named = [re.search(pattern, block) for pattern in (r'step\(\s*"(\w+)', r"envs/(\w+)\.yaml")]
                found[block.removeprefix("rule ").split(":", 1)[0]] = (named[0][1], named[1][1])
    return found


def overlay(data: Path) -> dict[str, Any]:
    """As few jobs as run every rule: images by two methods, chat on preferences that are given, coins in parts."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    images = config["systems"]["progressive_images"]
    methods = dict.fromkeys(images["methods"].keys() - {"before", "direct"})
    ablations = dict.fromkeys(images["ablations"].keys() - {"writer_of_direct"})
    few = {"baselines": ["before"], "figures": ["comparison"]}

    lora = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    qwen = {"model": str(tiny_chat.save_qwen2(data / "qwen")), "max_new_tokens": 8, "lora": lora}
    rates = {"learning_rate": {"drafter": 1.0e-3, "refiner": 1.0e-3}, "chosen_weight": {"drafter": 0.0, "refiner": 0.0}}
    sampling = {"objective": "sampling", "preferences": "dataset", "candidates": {"count": 2}}
    chat = few | {
        "factory": "sysdpo.applications.answers.settings:ChatRefinement",
        "data": {"source": str(tiny_chat.save_orca_pairs(data / "pairs"))},
        "prompts": {"train": 6, "validation": 2, "test": 4},
        "scorer": {"model": str(tiny_chat.save_pair_reward_model(data / "reward"))},
        "components": {"drafter": qwen, "refiner": qwen},
        "trajectories": {"samples_per_prompt": 2},
        "training": rates | {"steps": 2, "batch_size": 2},
        "methods": {"before": {"objective": "none"}, "sampling": sampling},
        "evaluation": {"samples_per_prompt": 1},
    }
    coins = COINS["systems"]["coins"]
    parts = {section: coins[section] | {"shards": 2} for section in ("trajectories", "evaluation")}
    kept = {name: coins["methods"][name] for name in ("before", "direct")}
    swept = {
        "system": "chat_refinement",
        "seeds": [0],
        "split": "validation",
        "methods": ["before"],
        "grid": {"best_of": [1, 2]},
    }
    claim = {"id": "coins", "system": "coins", "metric": "preference_score", "method": "direct", "sign": "above"}
    (data / "claims.yaml").write_text(yaml.safe_dump({"claims": [claim | {"baseline": "before"}]}))
    return {
        "claims": str(data / "claims.yaml"),
        "systems": {
            "progressive_images": few | {"methods": methods, "ablations": ablations},
            "two_stage_qa": None,
            "chat_refinement": chat,
            "coins": coins | few | parts | {"methods": kept, "figures": []},
        },
        "experiments": dict.fromkeys(config["experiments"]) | {"swept": swept},
        "studies": {"gradients": None, "theory": {"systems": ["chain"], "coverages": [1.0]}},
    }


class Project:
    """A fresh clone, with what the test adds: the overlay, the coins, and a record of every step."""

    def __init__(self, folder: Path):
        self.folder = clone(folder / "project")
        shutil.copy(SUPPORT / "coin_system.py", self.folder)
        (self.folder / "few.yaml").write_text(yaml.safe_dump(overlay(folder / "data")))
        program = self.folder / "sysdpo/__main__.py"
        program.write_text(RECORD + program.read_text())
        self.made = yaml.safe_load((self.folder / SCALE).read_text())["results"]
        self.results = self.folder / self.made

    def snakemake(self, *arguments: str, **environment: str) -> str:
        """What Snakemake prints; it must succeed."""
        options = [
            "--cores",
            "2",
            "--scheduler",
            "greedy",
            "--conda-prefix",
            str(KEPT),
            "--configfile",
            SCALE,
            "few.yaml",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *options, *arguments],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "jobs.jsonl").read_text().splitlines()]


def prefix_of(environment: str) -> Path:
    """The folder of an environment; beside it lies the file that it was made from."""
    text = (REPOSITORY / "envs" / f"{environment}.yaml").read_text()
    (made,) = [path.with_suffix("") for path in KEPT.glob("*.yaml") if path.read_text() == text]
    return made


def discard_environments_of_other_locks() -> None:
    wanted = {path.read_text() for path in (REPOSITORY / "envs").glob("*.yaml")}
    for file in KEPT.glob("*.yaml"):
        if file.read_text() not in wanted:
            shutil.rmtree(file.with_suffix(""), ignore_errors=True)
            file.with_suffix(".env_setup_done").unlink(missing_ok=True)
            file.unlink()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Before any job: the environments alone."""
    if shutil.which("conda") is None:
        pytest.skip("no conda on this machine")
    discard_environments_of_other_locks()
    made = Project(tmp_path_factory.mktemp("conda"))
    # As documented for machines with a GPU; elsewhere the constraints are on nothing. Imports compile what they need.
    pins = {"PIP_CONSTRAINT": str(made.folder / "envs/cuda.txt"), "PIP_NO_COMPILE": "1"}
    made.snakemake("--sdm", "conda", "--conda-create-envs-only", **pins)
    return made


@pytest.fixture(scope="module")
def shown(project: Project) -> str:
    """What the runs print that do an experiment, then ablations, and then everything else; the report shows both."""
    targets = ([f"{project.made}/experiments/swept.csv"], ["ablations"], [])
    return "".join(project.snakemake("--use-conda", *target) for target in targets)


@pytest.mark.parametrize("environment", pin.IMPORTED)
def test_an_environment_holds_exactly_the_pins_of_the_lock(project: Project, environment: str) -> None:
    python = prefix_of(environment) / "bin/python"
    command = [python, "-m", "pip", "list", "--format", "json", "--exclude", "pip"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    there = {pin.canonicalize_name(row["name"]): row["version"].split("+")[0] for row in listed}
    brought = {name: version for name, version in pin.locked("envs/cuda.txt").items() if name in there}
    assert there == {name: pin.locked()[name] for name in pin.needed(pin.IMPORTED[environment])} | brought
    checked = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_what_torch_brings_along_with_cuda_is_pinned_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    constraints = pin.locked("envs/cuda.txt")
    assert {"triton", "nvidia-cublas", "cuda-bindings"} <= {name for name in constraints if pin.of_cuda(name)}
    assert not constraints.keys() & pin.locked().keys()

    installed = pin.distribution
    torch = SimpleNamespace(requires=[*installed("torch").requires, *constraints])
    monkeypatch.setattr(pin, "distribution", lambda name: torch if name == "torch" else installed(name))
    for environment in pin.IMPORTED:
        assert pin.environment(environment) == (REPOSITORY / "envs" / f"{environment}.yaml").read_text()


def test_every_rule_runs_in_its_environment(project: Project, shown: str) -> None:
    planned, expected = Counter(), Counter()
    for name, count in re.findall(r"^(\w+) +(\d+)$", shown, re.MULTILINE):
        planned[name] += int(count)
    assert rules().keys() <= planned.keys()
    for name, (step, environment) in rules().items():
        expected[step, str(prefix_of(environment))] += planned[name]
    assert Counter((job["step"], job["prefix"]) for job in project.jobs()) == expected
    for job in project.jobs():
        assert Path(job["python"]).parent == Path(job["prefix"]) / "bin"


def test_tables_and_figures_are_made_without_model_libraries(project: Project, shown: str) -> None:
    for job in project.jobs():
        assert job["found"] == ([] if job["prefix"] == str(prefix_of("results")) else MODEL_LIBRARIES), job


def test_the_library_is_that_of_the_clone_and_no_environment_has_it(project: Project, shown: str) -> None:
    assert {job["library"] for job in project.jobs()} == {str(project.folder / "sysdpo/__init__.py")}
    for environment in pin.IMPORTED:
        command = [prefix_of(environment) / "bin/python", "-c", "import sysdpo"]
        done = subprocess.run(command, cwd=project.folder.parent, capture_output=True, text=True)
        assert "No module named 'sysdpo'" in done.stderr


def test_the_report_is_made_and_nothing_is_left_to_do(project: Project, shown: str) -> None:
    assert (project.results / "report.html").stat().st_size > 10_000
    assert "Nothing to be done" in project.snakemake("--use-conda", "--dry-run")


def test_a_job_has_its_environment_s_python_whatever_was_active(project: Project, shown: str, tmp_path: Path) -> None:
    """Conda puts an environment in the place of the active one, here the last in PATH."""
    conda, before = shutil.which("conda"), len(project.jobs())
    told = json.dumps({"conda_prefix": str(tmp_path), "platform": "linux-64"})
    scripts = {
        "conda": f'#!/bin/sh\nif [ "$1" = info ]; then echo \'{told}\'; else exec {conda} "$@"; fi\n',
        "activate": 'export CONDA_PREFIX="$1" PATH="$PATH:$1/bin"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in scripts.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    project.snakemake("--use-conda", "--force", f"{project.made}/tables/coins.md", PATH=path)
    assert [job["prefix"] for job in project.jobs()[before:]] == [str(prefix_of("results"))]


def test_the_training_environment_reads_a_sentencepiece_tokenizer(project: Project, tmp_path: Path) -> None:
    command = [prefix_of("training") / "bin/python", "-c", SENTENCEPIECE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    text, kind = json.loads(done.stdout)
    assert text == "[CLS] the answer to the question is one that a model gave[SEP]"
    assert kind == "DebertaV2Tokenizer"
