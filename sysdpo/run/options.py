"""The options of the steps as types: their help, how they are parsed, and whether the step writes there.

A step is a function whose arguments have these types; `sysdpo.run.cli` makes its command from them.
"""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sysdpo.base import numerics
from sysdpo.base.settings import Count, WrongSetting, read
from sysdpo.base.settings import Seed as SeedSetting
from sysdpo.method import config
from sysdpo.report import descriptions

WRITTEN = "written"
"""Marks a path that the step replaces; it reads every other path."""


@dataclass(frozen=True)
class Loaded:
    """Marks an argument that the command loads from the named file before it calls the step.

    read: a function of the path.
    """

    read: Callable[[Path], Any]


def written(step: Any) -> list[str]:
    """The names of the paths that a step replaces."""
    return [name for name, marks in _marks(step) if WRITTEN in marks]


def loaders(step: Any) -> dict[str, Callable[[Path], Any]]:
    """The functions that load a step's arguments, by name."""
    return {name: mark.read for name, marks in _marks(step) for mark in marks if isinstance(mark, Loaded)}


def _marks(step: Any) -> list[tuple[str, tuple[Any, ...]]]:
    hints = typing.get_type_hints(step, include_extras=True)
    return [(name, getattr(hint, "__metadata__", ())) for name, hint in hints.items()]


def path(help: str, kind: str = "FILE") -> Any:
    """An option that names a file, a folder, or several."""
    return typer.Option(help=help, metavar=kind, parser=Path)


def text(help: str, kind: str = "NAME") -> Any:
    """An option with any text, such as a name."""
    return typer.Option(help=help, metavar=kind)


def number(help: str, setting: Any = Count, unit: str = "N") -> Any:
    """An option that is a number of a setting's type."""
    return typer.Option(help=help, metavar=unit, parser=_reader(setting, typing.get_args(setting)[0]))


def choice(help: str, setting: Any) -> Any:
    """An option that is one of a setting's words."""
    return typer.Option(help=help, parser=_reader(setting, str))


def flag(option: str, help: str) -> Any:
    """An option without a value."""
    return typer.Option(option, help=help, metavar="")


def _reader(setting: Any, kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def parse(text: Any) -> Any:
        try:
            return read(setting, kind(text), "option")
        except WrongSetting as error:
            raise typer.BadParameter(error.what) from error
        except ValueError as error:
            raise typer.BadParameter(f"'{text}' should be a number") from error

    return parse


def load_config(path: Path) -> config.Config:
    """The configuration in a file; its numerics are chosen."""
    loaded = config.load_config(path)
    numerics.choose(loaded.get("numerics", numerics.chosen()))
    return loaded


Splits = Literal["validation", "test"]

Config = Annotated[config.Config, path("The configuration, a YAML file."), Loaded(load_config)]
System = Annotated[str, text("The system's name in the configuration.")]
Method = Annotated[str, text("The method's name in the configuration.")]
Seed = Annotated[int, number("The seed of all random numbers.", SeedSetting)]
Shard = Annotated[str | None, text("One shard of the prompts only; 2/4 is the second of four.", "2/4")]
Split = Annotated[Splits, choice("The split of the prompts to evaluate on.", Splits)]

Prompts = Annotated[Path, path("The prompts, from `prompts`.")]
Foundation = Annotated[Path, path("The foundation models, from `foundation`.", "FOLDER")]
Trajectories = Annotated[Path, path("The trajectories, from `sample` or `dataset`.")]
Scores = Annotated[Path, path("Their scores, from `score`.")]
TrainingScores = Annotated[Path | None, path("Their scores, from `score`; those of `dataset` have none.")]
Pairs = Annotated[Path, path("The preference pairs, from `pair` or `dataset`.")]
Trainings = Annotated[
    list[Path] | None,
    path("The output of `train`, for this method or for those that it takes components from.", "FOLDER..."),
]
Evaluations = Annotated[list[Path], path("The outputs of `evaluate`: SYSTEM/SEED/METHOD/evaluation.", "FOLDER...")]
Runs = Annotated[Path, path("The system's runs, with a folder for each seed.", "FOLDER")]
Results = Annotated[Path, path("The folder of all results.", "FOLDER")]
Descriptions = Annotated[
    descriptions.Descriptions,
    path("Names of systems, methods and metrics, from `describe`."),
    Loaded(descriptions.read_descriptions),
]
Metrics = Annotated[Path, path("The table of metrics, from `metrics`.")]
Comparisons = Annotated[Path, path("The table of comparisons, from `metrics`.")]

OutputFile = Annotated[Path, path("The file to write."), WRITTEN]
OutputFolder = Annotated[Path, path("The folder to write.", "FOLDER"), WRITTEN]
# Figures go one by one beside others, and replace nothing but themselves.
Figures = Annotated[Path, path("The folder for the figure.", "FOLDER")]
Checkpoint = Annotated[Path | None, path("The state of an unfinished training; it resumes from there."), WRITTEN]
