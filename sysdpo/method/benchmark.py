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
from sysdpo.method.system import Node, System, ends_of


@runtime_checkable
class Benchmark(Protocol):
    """One system with its prompts and metrics, and a score (`Scored`), preferences of its own (`HasPreferences`), or
    both.
    """

    inputs: tuple[str, ...]
    """The prompt table's columns that are the system's inputs."""

    nodes: Sequence[Node]
    """The system's directed acyclic graph."""

    components: Mapping[str, Settings]
    """The settings of the components that are models."""

    description: Description
    """How reports name and show it, and every metric with its direction."""

    foundations: Mapping[str, Callable[[int, Path], None]]
    """For each foundation model that the workflow makes, a function of a seed and the folder to write."""

    def prompts(self) -> pd.DataFrame:
        """A row for each prompt: columns `prompt_id, split, text`, the system's inputs, and any others.

        `split` is `train`, `validation` or `test`. Prompts about the same thing, wordings of one request for example,
        may share a text in the column `content`: intervals then count contents instead of prompts.
        """
        ...

    def system(self, foundation: Path) -> System:
        """The system before alignment.

        foundation: a folder that holds one for each foundation model.
        """
        ...

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """The evaluation's metrics, a column each; score and drift are added to them.

        The result has a row for each trajectory, identified by a column `trajectory_id` or else by the index of
        `trajectories`.

        prompts: those that the trajectories answer. scores: rows in the order of `trajectories`, without a score if the
        benchmark is not `Scored`.
        """
        ...

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """Measurements of how good, and how imperfect, the foundation models of a seed are."""
        ...


@runtime_checkable
class Scored(Protocol):
    """A benchmark that scores what a system makes."""

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """Columns `trajectory_id, prompt_id, score`: a row for each trajectory, in any order; higher is better."""
        ...


@runtime_checkable
class DeclaresOutputs(Protocol):
    """A benchmark that says which variables people see and judge.

    Without it, those that are nobody's parent.
    """

    outputs: tuple[str, ...]
    """Generated variables, as `System` takes them."""


@runtime_checkable
class HasPreferences(Protocol):
    """A benchmark whose data come with preferences of their own."""

    def preferences(self, prompts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Trajectories of these prompts, whole ones or final outputs alone, and their pairs.

        The pairs have the columns `pair_id, prompt_id, chosen_id, rejected_id, margin`; all are learnt from, unchanged.
        """
        ...


@dataclass(frozen=True)
class Judge:
    """A frozen network that scores images, or texts.

    model: a hub id or folder. batch_size: images or texts in a forward pass. dtype: of its weights.
    max_length: the most tokens of a text that it reads; None for images.
    """

    model: str
    batch_size: int
    dtype: str = "float32"
    max_length: int | None = None


@runtime_checkable
class Planned(Protocol):
    """A benchmark that says which networks it loads, so that `sysdpo plan` can estimate what a run takes."""

    def loaded(self) -> Mapping[str, Settings]:
        """`components` as `system` loads them, with every template filled in.

        `model` is None for a foundation model that the workflow trains; one that it only copies is named.
        """
        ...

    def judges(self) -> Mapping[str, Judge]:
        """The networks that `score` and `metrics` load, as `scorer` and `judge`."""
        ...


def offer_of(benchmark: Benchmark) -> Offer:
    """What a benchmark offers methods to learn from: its own `offer`, or else what its methods imply."""
    if isinstance(benchmark, Offering):
        return benchmark.offer
    return Offer(isinstance(benchmark, Scored), None if isinstance(benchmark, HasPreferences) else 0)


def outputs_of(benchmark: Benchmark) -> tuple[str, ...]:
    """The variables that people see and judge."""
    return benchmark.outputs if isinstance(benchmark, DeclaresOutputs) else ends_of(benchmark.nodes)


def load_benchmark(name: str, settings: Mapping[str, Any]) -> Benchmark:
    """The benchmark that `settings['factory']` names.

    name: of the system in the configuration. settings: its section.

    Raises `UserError` if the factory cannot be found or a setting is wrong.
    """
    where = f"systems.{name}"
    found: Any = load_function(str(settings.get("factory", "")), f"{where}.factory")
    if isinstance(found, type) and issubclass(found, SystemSettings):
        build = load_function(found.benchmark, f"{found.__name__}.benchmark")
        return cast(Benchmark, build(found.read(settings, where), where))
    SystemSettings.read(settings, where)
    if isinstance(found, Benchmark):  # itself, not what makes it
        return found
    return cast(Benchmark, found(settings))
