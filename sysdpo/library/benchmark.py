"""Your own system as a benchmark: what the workflow needs, from a few functions."""

import inspect as inspection
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.base.tables import contents_of
from sysdpo.library.preferences import Preferences, known_variables, read_preferences
from sysdpo.method.component import Deterministic
from sysdpo.method.description import Description, Metric
from sysdpo.method.offer import Offer
from sysdpo.method.system import Node, System
from sysdpo.method.values import plain

TEST, VALIDATION = 0.2, 0.1
PLAIN = (str, int, float, bool)
Measure = Callable[..., float]
Row = Mapping[str, Any]


class Benchmark:
    """A compound system with prompts, a score and metrics, for the workflow to compare methods on.

    The functions `score` and `metrics` get what their parameters name: variables of a trajectory, or entries of its
    prompt.

    make: a function that returns a new system, as it is before alignment, at each call.
    prompts: mappings, or a function that returns them, with the system's inputs, a `split` (`train`, `validation` or
    `test`), and whatever score and metrics use.
    score: a function to the number that preferences are made from; higher is better.
    preferences: in the place of prompts: whatever `read_preferences` takes. A relative path starts in the folder of the
    file that defines `make`, or else in the working directory. Prompts are those of the preferences; a column `split`
    divides them, or else a fifth is for the test and a tenth for validation, always the same ones.
    metrics: further functions by name, each alone or in a pair with a `Metric` that describes it.
    title, story, headline: of the `Description` in the report.

    Raises `UserError` if there are both prompts and preferences or neither, or prompts without a score.
    """

    foundations: Mapping[str, Callable[[int, Path], None]] = {}

    # What a benchmark cannot do it must not have: the protocols `Scored` and `HasPreferences` ask for these by name.
    score: Callable[[pd.DataFrame, pd.DataFrame, Path], pd.DataFrame]
    preferences: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame]]

    def __init__(
        self,
        make: Callable[[], System],
        *,
        prompts: Sequence[Row] | Callable[[], Sequence[Row]] | None = None,
        score: Measure | None = None,
        preferences: Any = None,
        metrics: Mapping[str, Measure | tuple[Metric, Measure]] | None = None,
        title: str = "",
        story: str = "",
        headline: Sequence[str] = (),
    ):
        if (prompts is None) == (preferences is None):
            raise UserError("benchmark: it should have prompts or preferences, and not both")
        if score is None and preferences is None:
            raise UserError("benchmark: it should have a score, or preferences in the place of prompts and a score")
        self._make, self._prompts, self._score = make, prompts, score
        self._source = _found(preferences, make) if isinstance(preferences, (str, Path)) else preferences
        if score is not None:
            self.score = self._scores
        if preferences is not None:
            self.preferences = self._preferences_of
        self._measures: dict[str, Measure] = {}
        described = {}
        for name, metric in (metrics or {}).items():
            words, measure = (
                metric if isinstance(metric, tuple) else (Metric(name.replace("_", " "), True, "", 3), metric)
            )
            described[name], self._measures[name] = words, measure
        self.description = Description(described, title=title, story=story, headline=tuple(headline))

    @property
    def data(self) -> list[Path]:
        """The file or folder that the preferences are in."""
        return [self._source] if isinstance(self._source, Path) else []

    @property
    def offer(self) -> Offer:
        """What methods can learn from, known without making the system."""
        return Offer(self._score is not None, 0 if self._source is None else known_variables(self._source))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The prompts' columns that are the system's inputs."""
        return self._made.inputs

    @property
    def nodes(self) -> Sequence[Node]:
        """The system's graph."""
        return self._made.nodes

    @property
    def outputs(self) -> tuple[str, ...]:
        """The generated variables that people see and judge."""
        return self._made.outputs

    @property
    def components(self) -> dict[str, Any]:
        """The components that are not functions; each has a value in every trajectory."""
        parts = self._made.components
        return {node.component: None for node in self.nodes if not isinstance(parts[node.component], Deterministic)}

    @property
    def _made(self) -> System:
        if not hasattr(self, "_system"):
            self._system = self.system(Path())
        return self._system

    def prompts(self) -> pd.DataFrame:
        """A row for each prompt, columns `prompt_id, split, text, …`; ids are made up if none are given."""
        if self._prompts is None:
            return self._prompts_of_preferences()
        rows = [dict(row) for row in (self._prompts() if callable(self._prompts) else self._prompts)]
        table = pd.DataFrame(rows)
        if "split" not in table:
            raise UserError("prompts: each should have a split: train, validation or test")
        if "prompt_id" not in table:
            table.insert(0, "prompt_id", [f"p{number:05d}" for number in range(len(table))])
        return self._with_text(table)

    def _with_text(self, table: pd.DataFrame) -> pd.DataFrame:
        if "text" not in table:
            rows = table.to_dict("records")
            table["text"] = [" | ".join(str(row[name]) for name in self.inputs) for row in rows]
        return table

    @cached_property
    def _read(self) -> Preferences:
        return read_preferences(self._source, self._made)

    def _prompts_of_preferences(self) -> pd.DataFrame:
        """A row for each prompt that has a pair."""
        found = self._read
        names = list(dict.fromkeys(found.pairs["prompt_id"]))
        first = found.trajectories.drop_duplicates("prompt_id").set_index("prompt_id")
        table = pd.DataFrame({"prompt_id": names} | {name: first.loc[names, name].tolist() for name in self.inputs})
        for name in dict.fromkeys(column for told in found.told.values() for column in told):
            values = [found.told[prompt].get(name) for prompt in names]
            if name not in table and len({type(value) for value in values}) == 1 and isinstance(values[0], PLAIN):
                table[name] = values
        if "split" not in table:
            if any("split" in told for told in found.told.values()):
                raise UserError("preferences: each row should have a split, or none should")
            table.insert(1, "split", _random_splits(table))
        return self._with_text(table)

    def _preferences_of(self, prompts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Trajectories and pairs of these prompts, as the data have them."""
        found = self._read.of_prompts(set(prompts["prompt_id"]))
        return found.trajectories, found.pairs

    def system(self, foundation: Path) -> System:
        """The system before alignment."""
        made = self._make()
        if not isinstance(made, System):
            raise UserError(f"the function that makes the system should give a System, not a {type(made).__name__}")
        return made

    def _scores(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """Columns `trajectory_id, prompt_id, score`."""
        assert self._score is not None
        values = self._measured(self._score, "score", prompts, trajectories)
        return trajectories[["trajectory_id", "prompt_id"]].assign(score=values)

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """A column for each metric, a row for each trajectory."""
        found = {name: self._measured(measure, name, prompts, trajectories) for name, measure in self._measures.items()}
        return pd.DataFrame(found, index=trajectories.index)

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """An empty mapping: the workflow has made none of the models."""
        return {}

    def _measured(self, measure: Measure, name: str, prompts: pd.DataFrame, trajectories: pd.DataFrame) -> list[float]:
        told = {row["prompt_id"]: row for row in prompts.to_dict("records")}
        return [
            call_with(measure, told[row["prompt_id"]] | row, f"the function of '{name}'")
            for row in trajectories.to_dict("records")
        ]


def _found(source: str | Path, make: Callable[..., Any]) -> Path:
    """The path beside the file of `make`, where there is something, or else in the working directory."""
    code = getattr(make, "__code__", None)
    beside = Path(code.co_filename).parent / source if code else Path(source)
    return beside if beside.exists() else Path(source)


def _random_splits(prompts: pd.DataFrame) -> list[str]:
    """The split of each prompt, drawn by content: a fifth `test`, a tenth `validation`, at least one each."""
    contents = contents_of(prompts).tolist()
    distinct = list(dict.fromkeys(contents))
    if len(distinct) < 3:
        raise UserError(
            f"preferences: {len(distinct)} different prompts are too few to be split into train, validation and test; "
            "at least 3 are needed"
        )
    order = numpy_generator("splits of preferences").permutation(len(distinct))
    test, validation = (max(1, round(share * len(distinct))) for share in (TEST, VALIDATION))
    splits = ["test"] * test + ["validation"] * validation + ["train"] * (len(distinct) - test - validation)
    split_of = {distinct[index]: split for index, split in zip(order, splits, strict=True)}
    return [split_of[content] for content in contents]


def call_with(measure: Measure, row: Mapping[Any, Any], where: str) -> float:
    """The measure of a row, given what it asks for; raises `UserError` unless that is there, and a finite number."""
    wanted = inspection.signature(measure).parameters
    if missing := [name for name in wanted if name not in row]:
        raise UserError(f"{where} asks for {missing}, which should be among {sorted(map(str, row))}")
    value = float(measure(**{name: plain(row[name]) for name in wanted}))
    if not np.isfinite(value):
        raise UserError(f"{where} gave {value}, which should be a finite number")
    return value
