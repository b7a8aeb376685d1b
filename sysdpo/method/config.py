"""The configuration of a comparison: systems, the methods that align them, experiments and studies.

It is read as the mapping that Snakemake merges from its files, and checked as a whole by the models here. No model
library is imported: a workflow may read its configuration quickly.
"""

import copy
import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, create_model, model_validator

from sysdpo.base.errors import UserError
from sysdpo.base.functions import import_plugins, load_function
from sysdpo.base.results_folder import check_results
from sysdpo.base.settings import (
    FORMS,
    FUNCTION,
    MODULE,
    FunctionName,
    MethodName,
    ModuleName,
    Name,
    Seeds,
    SetOf,
    Settings,
    SomeOf,
    WrongSetting,
    one_of,
    read,
    unknown_name,
)
from sysdpo.base.yaml_files import read_yaml
from sysdpo.method.offer import Offer, Offering
from sysdpo.method.scales import check_only, merged
from sysdpo.method.settings import Evaluation, MethodSettings, TrainingTrajectories

Config = dict[str, Any]

FIGURE_NAME = rf"^({MODULE}:)?[a-z][a-z0-9_]*$"
FORMS[FIGURE_NAME] = "a figure's name, or package.module:name or path/to/file.py:name of one's own"
FigureName = Annotated[str, Field(pattern=FIGURE_NAME)]
FOLDER = r"^[\w./@+=,-]*[\w.@+=,-]$"
FORMS[FOLDER] = "a folder, without spaces, special characters or a slash at its end"

Grid = Annotated[Mapping[str, Any], Field(min_length=1)]


def _all_optional(kind: type[Settings]) -> dict[str, Any]:
    """The fields of these settings, all of them optional."""
    fields = {}
    for name, field in kind.model_fields.items():
        left_out = copy.copy(field)
        left_out.default, left_out.default_factory = None, None
        fields[name] = (field.annotation, left_out)
    return fields


MethodRow: Any = create_model(
    "MethodRow",
    __base__=Settings,
    __doc__="What the row of a method gives; the rest is as `training` has it.",
    **_all_optional(MethodSettings),
)


class SystemSettings(Settings, extra="allow"):
    """One compound system, and what is done with it. A system of one's own may have sections of its own."""

    benchmark: ClassVar[str] = ""
    """The benchmark's class, as `package.module:Class`; it is given the settings, and where they stand for errors."""

    offer: ClassVar[Offer] = Offer()
    """What the benchmark has for methods to learn from."""

    factory: FunctionName
    """The function from these settings to the benchmark, as `package.module:function`; or the class of the settings,
    which names the benchmark's."""
    components: Annotated[Mapping[Name, Any], Field(min_length=1)]
    """The models of the system."""
    trajectories: TrainingTrajectories
    """What preferences are made from."""
    training: MethodRow
    """What every trained method shares, unless its row says otherwise."""
    methods: Annotated[Mapping[MethodName, MethodRow | None], Field(min_length=1)]
    """The methods to compare, each a row laid over `training`."""
    ablations: Mapping[MethodName, MethodRow | None] = Field(default_factory=dict)
    """Further rows that answer a side question; the target `ablations` compares them with the methods."""
    baselines: SetOf[MethodName] = ()
    """The methods that every trained method is compared with, paired by prompt and seed."""
    evaluation: Evaluation
    """How held-out prompts are used."""
    figures: SetOf[FigureName] = ()
    """The figures to draw, by name; one of your own as `package.module:function`."""

    @model_validator(mode="after")
    def _names_name_something(self) -> Self:
        rows = {**self.methods, **self.ablations}
        if twice := sorted(set(self.methods) & set(self.ablations)):
            raise WrongSetting(("ablations",), f"'{twice[0]}' is one of the methods already; give it another name")
        for baseline in self.baselines:
            if baseline not in rows:
                raise WrongSetting(("baselines",), unknown_name(baseline, "method", rows))
        merged = {name: self._merged(row) for name, row in rows.items()}
        components = list(self.components.fields if isinstance(self.components, Settings) else self.components)
        for name, row in merged.items():
            section = "methods" if name in self.methods else "ablations"
            if wrong := sorted({*row.get("learning_rate", ()), *(row.get("take") or ())} - set(components)):
                raise WrongSetting((section, name), unknown_name(wrong[0], "component", components))
            try:
                MethodSettings(**row)
            except WrongSetting as error:
                raise WrongSetting((section, name, *error.path), error.what) from error
        trained = [name for name, row in merged.items() if MethodSettings(**row).trains]
        for name, row in merged.items():
            for component, source in (row.get("take") or {}).items():
                if source not in trained:
                    section = "methods" if name in self.methods else "ablations"
                    told = unknown_name(source, "method that trains", trained)
                    raise WrongSetting((section, name, "take", component), told)
        prompts = getattr(self, "prompts", None)
        for section, split in (("trajectories", "train"), ("evaluation", "test")):
            shards = getattr(self, section).shards
            most = prompts.get(split) if isinstance(prompts, Mapping) else getattr(prompts, split, None)
            if isinstance(most, int) and shards > most:
                raise WrongSetting((section, "shards"), f"{shards} should be at most {most}, the {split} prompts")
        return self

    def _merged(self, row: Any) -> dict[str, Any]:
        return merged(_given(self.training), _given(row))


class Experiment(Settings):
    """A grid of settings: every method at every point of it."""

    system: Name
    """The system it is about."""
    seeds: Seeds
    """The seeds it is run for."""
    split: Literal["validation", "test"]
    """The prompts it is evaluated on; what is chosen by it must not see the test split."""
    methods: SomeOf[MethodName]
    """The methods it is run for, by their rows."""
    grid: Grid
    """For each setting its values, or labels that each stand for several settings."""

    @model_validator(mode="after")
    def _has_points(self) -> Self:
        for axis, values in self.grid.items():
            if not isinstance(values, (Mapping, list)) or not values:
                raise WrongSetting(("grid", axis), f"{values!r} should be a list of values, or a mapping of settings")
            for name, settings in values.items() if isinstance(values, Mapping) else ():
                below = ("grid", axis, name)
                if not isinstance(settings, Mapping):
                    raise WrongSetting(below, f"{settings!r} should be a mapping of settings")
                try:
                    MethodRow(**settings)
                except WrongSetting as error:
                    raise WrongSetting((*below, *error.path), error.what) from error
        return self


class Study(Settings, extra="allow"):
    """A computation on systems small enough to enumerate, or on simulated runs; the rest is the study's own."""

    factory: FunctionName
    """The function from these settings to the study's table, as `package.module:function`; or the class of the
    settings, which names that function."""

    table: ClassVar[str] = ""
    """The function from the settings to the study's table, as `package.module:function`."""


class Comparison(Settings):
    """The whole of `config.yaml`, with the scale laid over it."""

    numerics: Literal["portable", "native"] = "portable"
    """How numbers are rounded: the same on every x86-64 processor, or as is fastest on this one."""
    results: Annotated[str, Field(pattern=FOLDER)] = "results"
    """The folder for everything that a run makes, without spaces or a slash at its end."""
    seeds: Seeds = (0,)
    """One whole repetition each, with foundation models and preference data of its own."""
    claims: Annotated[str, Field(min_length=1)] | None = None
    """The file of claims that the results are held against; null for none."""
    plugins: SetOf[ModuleName] = ()
    """Modules of your own, `my_objectives.py` or `package.module`, imported before anything is checked: what they
    register, an objective or a figure say, can be named."""
    only: SomeOf[Name] | None = None
    """The systems and studies to run, by name, of all that are described, with the experiments on these systems; null
    is all. A configuration of your own, laid over `config.yaml`, so leaves out what that describes."""
    systems: Annotated[Mapping[Name, Any], Field(min_length=1)]
    """The compound systems to align, by name."""
    experiments: Mapping[Name, Experiment] = Field(default_factory=dict)
    """Grids of settings, by name; each is a target of its own."""
    studies: Mapping[Name, Any] = Field(default_factory=dict)
    """Computations on systems small enough to enumerate or on simulated runs, by name."""

    @model_validator(mode="after")
    def _only_what_there_is(self) -> Self:
        if self.only is not None:
            check_only(self.only, self.systems, self.studies)
        return self


def check(config: Mapping[str, Any]) -> Comparison:
    """Check a whole configuration; raises `UserError` about the first setting that is wrong or names nothing.

    The section of a system or a study is checked by its factory, if that is a class of settings, or else as the section
    of any system. If a library that the factory needs is missing here, the steps that have it check the section.
    """
    found = read_whole(config)
    import_plugins(found.plugins)
    for name, described in found.systems.items():
        where = f"systems.{name}"
        settings_class(_factory(described), f"{where}.factory", SystemSettings).read(described, where)
    for name, described in found.studies.items():
        where = f"studies.{name}"
        settings_class(_factory(described), f"{where}.factory", Study).read(described, where)
    for name, experiment in found.experiments.items():
        where = f"experiments.{name}"
        if experiment.system not in found.systems:
            raise UserError(f"{where}.system: {unknown_name(experiment.system, 'system', found.systems)}")
        described = found.systems[experiment.system]
        rows = {**described["methods"], **(described.get("ablations") or {})}
        for method in experiment.methods:
            if method not in rows:
                raise UserError(f"{where}.methods: {unknown_name(method, 'method', rows)}")
    for name, variant in expand_experiments(config).items():
        row = method_rows(config, variant["system"])[name]
        MethodSettings.read(row, f"experiments.{variant['experiment']}: {variant['method']} at {variant['point']}")
    for name, described in found.systems.items():
        named = named_by(described)
        if isinstance(named, Offering):
            check_offer(config, name, named.offer)
    return found


def named_by(described: Any) -> Any:
    """What a system's factory names: a class of settings, a function, or a benchmark.

    None if it cannot be imported here.
    """
    try:
        return load_function(str(_factory(described)), "factory")
    except UserError:
        return None


def check_offer(config: Mapping[str, Any], system: str, offer: Offer) -> None:
    """Raises `UserError` about the first setting of a system that asks for what its benchmark does not offer."""
    if offer == Offer():  # which says nothing
        return
    described, where = config["systems"][system], f"systems.{system}"
    sources = {name: f"{where}.ablations.{name}" for name in described.get("ablations") or {}}
    for name, variant in expand_experiments(config).items():
        sources[name] = f"experiments.{variant['experiment']}: {variant['method']} at {variant['point']}"
    rows = {
        name: MethodSettings.read(row, sources.get(name, f"{where}.methods.{name}"))
        for name, row in method_rows(config, system).items()
    }
    offer.check(rows, evaluation_settings(described, system), list(described["components"]), where, sources)


def read_whole(config: Mapping[str, Any]) -> Comparison:
    """The configuration, its systems and studies unchecked; raises `UserError` if anything else is wrong."""
    try:
        return Comparison(**config)
    except WrongSetting as error:
        raise UserError(str(error) if error.path else f"config: {error.what}") from error
    except TypeError as error:  # a key that is no text
        raise UserError(f"config: its keys should be texts ({error})") from error


def _factory(described: Any) -> Any:
    return described.get("factory") if isinstance(described, Mapping) else None


def settings_class(factory: Any, where: str, base: Any) -> Any:
    """The class of settings that a factory names, or `base` if it names anything else.

    where: the setting that holds the name.

    Raises `UserError` if nothing has that name.
    """
    if not isinstance(factory, str) or not re.fullmatch(FUNCTION, factory):
        return base
    try:
        found = load_function(factory, where)
    except UserError as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and not _is_own(error.__cause__, factory):
            return base
        raise
    return found if isinstance(found, type) and issubclass(found, base) else base


def _is_own(error: ModuleNotFoundError, factory: str) -> bool:
    """Whether the missing module is the named one, or a package that contains it."""
    module = factory.partition(":")[0]
    return error.name is None or f"{module}.".startswith(f"{error.name}.")


def load_config(path: Path) -> Config:
    """Read a configuration from a YAML file; systems are checked when they are used, or all at once by `check`.

    Raises `UserError` if it is not a configuration, or if its `results` is not a folder of its own.
    """
    config = read_yaml(path)
    if not isinstance(config, dict) or not isinstance(config.get("systems"), dict):
        raise UserError(f"config: '{path}' should be a mapping with the key 'systems'")
    one_of_keys(config)
    if "results" in config:
        check_results(str(config["results"]))
    import_plugins(read(SetOf[ModuleName], config.get("plugins", ()), "plugins"))
    return config


def one_of_keys(config: Config) -> None:
    """Raises `UserError` about a section that a configuration does not have."""
    for key in config:
        if key not in Comparison.model_fields:
            raise UserError(f"config: {unknown_name(str(key), 'setting', list(Comparison.model_fields))}")


def system_config(config: Config, system: str) -> Config:
    """The section of one system; raises `UserError` if there is none or it is wrong."""
    one_of("system", system, sorted(config["systems"]))
    described = config["systems"][system]
    SystemSettings.read(described, f"systems.{system}")
    return described


def evaluation_settings(described: Config, system: str) -> Evaluation:
    """The settings in the section `evaluation` of one system."""
    return Evaluation.read(described["evaluation"], f"systems.{system}.evaluation")


def study_config(config: Config, study: str) -> Config:
    """The settings of one study."""
    studies = config.get("studies") or {}
    one_of("study", study, sorted(studies))
    return dict(studies[study])


def method_rows(config: Mapping[str, Any], system: str) -> dict[str, dict[str, Any]]:
    """Every method of a system, grid points of experiments included: its row laid over `training`."""
    described = config["systems"][system]
    variants = {name: row for name, row in expand_experiments(config).items() if row["system"] == system}
    rows = dict(described["methods"]) | dict(described.get("ablations") or {})
    # An experiment shows nothing of its trainings, so they are not looked at unless it asks for that.
    unwatched = {"monitor_every": 0}
    rows |= {
        name: merged(rows[variant["method"]] or {}, unwatched | variant["overrides"])
        for name, variant in variants.items()
    }
    return {name: merged(described["training"], row or {}) for name, row in rows.items()}


def method_settings(config: Config, system: str, method: str) -> MethodSettings:
    """The settings of one method; raises `UserError` about an unknown method, key or value."""
    system_config(config, system)
    rows = method_rows(config, system)
    one_of("method", method, sorted(rows))
    return MethodSettings.read(rows[method], f"systems.{system}.methods.{method}")


def expand_experiments(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The grid points of every experiment, by the names of their runs.

    Each is a mapping `{experiment, system, method, point, overrides}`: `point` has the coordinates, `overrides` the
    settings of the method that they stand for. A value of the grid is a scalar, or a mapping `{label: settings}` if one
    coordinate sets several settings.
    """
    variants = {}
    for experiment, described in (config.get("experiments") or {}).items():
        points = list(product(*(_coordinates(axis, values) for axis, values in described["grid"].items())))
        for method in described["methods"]:
            for index, point in enumerate(points):
                overrides: dict[str, Any] = {}
                for _, _, settings in point:
                    overrides = merged(overrides, settings)
                variants[f"{experiment}-{method}-{index:02d}"] = {
                    "experiment": experiment,
                    "system": described["system"],
                    "method": method,
                    "point": {axis: label for axis, label, _ in point},
                    "overrides": overrides,
                }
    return variants


def _coordinates(axis: str, values: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    if isinstance(values, Mapping):
        return [(axis, label, dict(settings)) for label, settings in values.items()]
    return [(axis, value, {axis: value}) for value in values]


def _given(row: Any) -> dict[str, Any]:
    """The settings of a row that the configuration sets, as it sets them."""
    if row is None:
        return {}
    return {name: _plain(getattr(row, name)) for name in row.model_fields_set}


def _plain(value: Any) -> Any:
    return (
        {name: _plain(getattr(value, name)) for name in value.model_fields_set}
        if isinstance(value, Settings)
        else value
    )
