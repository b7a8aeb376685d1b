"""What a benchmark system offers.

The configuration names a function `settings -> Benchmark` as `package.module:function`.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd

from sysdpo.errors import UserError
from sysdpo.system import System


class Benchmark(Protocol):
    """One system with its prompts, scorer and metrics."""

    inputs: tuple[str, ...]
    """The prompt table's columns that are the system's inputs."""

    foundations: Mapping[str, Callable[[int, Path], None]]
    """How each foundation model is made: from a seed, into a folder."""

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, text, …`; split is `train`, `validation` or `test`."""
        ...

    def system(self, foundation: Path) -> System:
        """The system before alignment; `foundation` holds a folder for each foundation model."""
        ...

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """Columns `trajectory_id, prompt_id, score, …`, a row per trajectory, higher is better."""
        ...

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """The evaluation's metrics but for the score and the drift: a column each, rows as in `trajectories`."""
        ...

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """How good, and how imperfect, the foundation models came out."""
        ...


def load_benchmark(name: str, settings: Mapping[str, Any]) -> Benchmark:
    """Build the benchmark that `settings['factory']` names; raises `UserError` if it cannot be found."""
    factory = str(settings.get("factory", ""))
    module, _, function = factory.partition(":")
    try:
        build = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"systems.{name}.factory: '{factory}' should name a function as 'package.module:function' ({error})"
        ) from error
    return cast(Benchmark, build(settings))
