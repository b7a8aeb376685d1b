"""A system of one's own as a benchmark: what the workflow asks for, from a few functions."""

import inspect as inspection
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.method.component import Deterministic
from sysdpo.method.description import Description, Metric
from sysdpo.method.system import Node, System
from sysdpo.method.values import plain

Measure = Callable[..., float]
Row = Mapping[str, Any]


class Benchmark:
    """A compound system with prompts, a score and metrics, for the workflow to compare methods on.

    make: the system before alignment, made anew at each call. prompts: mappings (or a function that gives them) with
    the system's inputs, a `split` (`train`, `validation` or `test`), and whatever score and metrics ask for. score:
    what preferences are made from, higher is better. metrics: further measures, each a function, or a pair of a
    `Metric`, which says what it is called and whether higher is better, and a function. Functions are given a
    trajectory's variables and its prompt's values by name, those that they ask for.
    title, story, headline: for the report.
    """

    foundations: Mapping[str, Callable[[int, Path], None]] = {}

    def __init__(
        self,
        make: Callable[[], System],
        *,
        prompts: Sequence[Row] | Callable[[], Sequence[Row]],
        score: Measure,
        metrics: Mapping[str, Measure | tuple[Metric, Measure]] | None = None,
        title: str = "",
        story: str = "",
        headline: Sequence[str] = (),
    ):
        self._make, self._prompts, self._score = make, prompts, score
        self._measures: dict[str, Measure] = {}
        described = {}
        for name, metric in (metrics or {}).items():
            words, measure = (
                metric if isinstance(metric, tuple) else (Metric(name.replace("_", " "), True, "", 3), metric)
            )
            described[name], self._measures[name] = words, measure
        self.description = Description(described, title=title, story=story, headline=tuple(headline))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts' columns that are the system's inputs."""
        return self._made.inputs

    @property
    def nodes(self) -> Sequence[Node]:
        """The system's graph."""
        return self._made.nodes

    @property
    def components(self) -> dict[str, Any]:
        """Its components that draw, and so have values in every trajectory."""
        parts = self._made.components
        return {node.component: None for node in self.nodes if not isinstance(parts[node.component], Deterministic)}

    @property
    def _made(self) -> System:
        if not hasattr(self, "_system"):
            self._system = self.system(Path())
        return self._system

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, text, …`, a row a prompt; ids are made where none are given."""
        rows = [dict(row) for row in (self._prompts() if callable(self._prompts) else self._prompts)]
        table = pd.DataFrame(rows)
        if "split" not in table:
            raise UserError("prompts: each should have a split: train, validation or test")
        if "prompt_id" not in table:
            table.insert(0, "prompt_id", [f"p{number:05d}" for number in range(len(table))])
        if "text" not in table:
            table["text"] = [" | ".join(str(row[name]) for name in self.inputs) for row in rows]
        return table

    def system(self, foundation: Path) -> System:
        """The system before alignment."""
        made = self._make()
        if not isinstance(made, System):
            raise UserError(f"the function that makes the system should give a System, not a {type(made).__name__}")
        return made

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """Columns `trajectory_id, prompt_id, score`."""
        values = self._measured(self._score, "score", prompts, trajectories)
        return trajectories[["trajectory_id", "prompt_id"]].assign(score=values)

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """A column a metric, a row a trajectory."""
        found = {name: self._measured(measure, name, prompts, trajectories) for name, measure in self._measures.items()}
        return pd.DataFrame(found, index=trajectories.index)

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """Nothing: there are no models that the workflow has made."""
        return {}

    def _measured(self, measure: Measure, name: str, prompts: pd.DataFrame, trajectories: pd.DataFrame) -> list[float]:
        told = {row["prompt_id"]: row for row in prompts.to_dict("records")}
        return [
            call_with(measure, told[row["prompt_id"]] | row, f"the function of '{name}'")
            for row in trajectories.to_dict("records")
        ]


def call_with(measure: Measure, row: Mapping[Any, Any], where: str) -> float:
    """The measure of a row, given what it asks for; raises `UserError` unless that is there, and a finite number."""
    wanted = inspection.signature(measure).parameters
    if missing := [name for name in wanted if name not in row]:
        raise UserError(f"{where} asks for {missing}, which should be among {sorted(map(str, row))}")
    value = float(measure(**{name: plain(row[name]) for name in wanted}))
    if not np.isfinite(value):
        raise UserError(f"{where} gave {value}, which should be a finite number")
    return value
