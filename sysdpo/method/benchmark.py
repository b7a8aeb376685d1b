"""What a benchmark system offers.

The configuration names a function `settings -> Benchmark` as `package.module:function`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import pandas as pd

from sysdpo.base.functions import load_function
from sysdpo.base.settings import Settings
from sysdpo.method.config import SystemSettings
from sysdpo.method.description import Description
from sysdpo.method.offer import Offer, Offering
from sysdpo.method.system import Node, System


@runtime_checkable
class Benchmark(Protocol):
    """One system with its prompts and metrics, and a scorer (`Scored`), preferences of its own (`HasPreferences`), or
    both.
    """

    inputs: tuple[str, ...]
    """The prompt table's columns that are the system's inputs."""

    nodes: Sequence[Node]
    """The system's directed acyclic graph."""

    components: Mapping[str, Settings]
    """The settings of the components that are models."""

    description: Description
    """What it is called and shows, and every metric with its direction."""

    foundations: Mapping[str, Callable[[int, Path], None]]
    """How each foundation model is made: from a seed, into a folder."""

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, text, …`; split is `train`, `validation` or `test`.

        Prompts about the same thing, wordings of one request say, may share a `content`, a text: intervals then count
        contents, not prompts.
        """
        ...

    def system(self, foundation: Path) -> System:
        """The system before alignment; `foundation` holds a folder for each foundation model."""
        ...

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """The evaluation's metrics but for the score and the drift: a column each, a row for each trajectory.

        Rows are told by a column `trajectory_id`, or else by the index that they have in `trajectories`; those of
        `scores` are in the same order, and have no score where the benchmark is not `Scored`.
        """
        ...

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """How good, and how imperfect, the foundation models came out."""
        ...


@runtime_checkable
class Scored(Protocol):
    """A benchmark that scores what a system makes."""

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """Columns `trajectory_id, prompt_id, score, …`: a row for each trajectory, in any order; higher is better."""
        ...


@runtime_checkable
class HasPreferences(Protocol):
    """A benchmark whose data come with preferences of their own."""

    def preferences(self, prompts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Trajectories of these prompts, whole ones or final outputs alone, and the pairs of them: columns `pair_id,
        prompt_id, chosen_id, rejected_id, margin`. Each pair is learnt from as it is.
        """
        ...


@dataclass(frozen=True)
class Judge:
    """A frozen network that scores trajectories: images one by one, or texts of at most `max_length` tokens.

    model: a hub id or folder. batch_size: images or texts in a forward pass.
    """

    model: str
    batch_size: int
    dtype: str = "float32"
    max_length: int | None = None


@runtime_checkable
class Planned(Protocol):
    """A benchmark that says which networks it loads, for `sysdpo plan` to tell what a run takes."""

    def loaded(self) -> Mapping[str, Settings]:
        """`components` as `system` loads them, with the templates that the configuration leaves open.

        `model` is None for a foundation model that the workflow makes; one that it only copies is named.
        """
        ...

    def judges(self) -> Mapping[str, Judge]:
        """The networks that `score` and `metrics` load, as `scorer` and `judge`."""
        ...


def offer_of(benchmark: Benchmark) -> Offer:
    """What it has for methods to learn from: as it says itself, or else by what it can do."""
    if isinstance(benchmark, Offering):
        return benchmark.offer
    return Offer(isinstance(benchmark, Scored), None if isinstance(benchmark, HasPreferences) else 0)


def load_benchmark(name: str, settings: Mapping[str, Any]) -> Benchmark:
    """Build the benchmark that `settings['factory']` names; raises `UserError` if it cannot be found."""
    where = f"systems.{name}"
    found: Any = load_function(str(settings.get("factory", "")), f"{where}.factory")
    if isinstance(found, type) and issubclass(found, SystemSettings):
        build = load_function(found.benchmark, f"{found.__name__}.benchmark")
        return cast(Benchmark, build(found.read(settings, where), where))
    SystemSettings.read(settings, where)
    if isinstance(found, Benchmark):  # itself, not what makes it
        return found
    return cast(Benchmark, found(settings))
