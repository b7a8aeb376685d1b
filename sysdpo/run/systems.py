"""The system of a finished run after one method."""

from pathlib import Path
from typing import Any

from sysdpo.base.errors import UserError
from sysdpo.method.config import Config, method_settings
from sysdpo.method.settings import MethodSettings
from sysdpo.run.trained import check_identity, identity, load_trained


def foundation_below(runs: Path, seed: int, foundation: Path | None) -> Path:
    """The folder of the foundation models, by default that of the run; raises `UserError` if it is not there."""
    if not (runs / str(seed)).is_dir():
        raise UserError(f"--runs: '{runs}' should be a system's runs, with the folder '{seed}' of this seed")
    return foundation or runs / str(seed) / "foundation"


def trainings_below(
    config: Config, system: str, seed: int, method: str, runs: Path
) -> dict[str, tuple[Path, MethodSettings]]:
    """The folders and settings of the trainings that a method's system consists of, by the trained methods.

    Raises `UserError` if one of them is missing or is of another method.
    """
    found = {}
    for source in method_settings(config, system, method).trainings(method):
        row = method_settings(config, system, source)
        folder = runs / str(seed) / source / "training"
        check_identity(folder, identity(system, source, seed, row), "--runs")
        found[source] = (folder, row)
    return found


def trained_system(
    config: Config, system: str, seed: int, method: str, runs: Path, foundation: Path, benchmark: Any
) -> tuple[Any, list[str]]:
    """The system after a method, on this process's device, and the names of the components that were trained."""
    trainings = trainings_below(config, system, seed, method, runs)
    models = benchmark.system(foundation).to()
    return models, load_trained(models, method_settings(config, system, method), trainings)
