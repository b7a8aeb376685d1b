"""The configuration: reading it, and what it says of systems, methods and experiments.

No model library is imported here: a workflow may read its configuration quickly.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from sysdpo.base.errors import UserError
from sysdpo.base.settings import Evaluation, MethodSettings, Sampling, one_of, typed

Config = dict[str, Any]

LIBRARY = Path(__file__).resolve().parents[1]

TOP_LEVEL = ("numerics", "results", "seeds", "claims", "systems", "experiments", "studies")
REQUIRED_SECTIONS = ("factory", "components", "trajectories", "training", "methods", "evaluation")
SECTIONS = (
    *REQUIRED_SECTIONS,
    *("prompts", "questions", "data", "foundation", "scorer", "judge", "ablations", "baselines", "figures"),
)


RUN_MAKES = (
    *("runs", "logs", "benchmarks", "checkpoints", "config.yaml", "metrics.csv", "comparisons.csv", "tables"),
    *("claims.csv", "claims.md", "descriptions.json", "figures", "studies", "experiments", "ablations"),
    *("manifest.json", "report.html"),
)
"""What a run leaves in its folder of results."""


SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, which is three times as fast: every step reads the configuration."""


def load_config(path: Path) -> Config:
    """Read a YAML configuration; raises `UserError` if it is none, or its `results` no folder of their own."""
    config = read_yaml(path)
    if not isinstance(config, dict) or not isinstance(config.get("systems"), dict):
        raise UserError(f"config: '{path}' should be a mapping with the key 'systems'")
    if unknown := sorted(set(config) - set(TOP_LEVEL)):
        raise UserError(f"config: unknown key {unknown}; known are {list(TOP_LEVEL)}")
    if "results" in config:
        check_results(str(config["results"]))
    return config


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; raises `UserError` if it is none, or gives a mapping the same key twice."""
    try:
        loader = SAFE_LOADER(path.read_text())
        try:
            node = loader.get_single_node()
            if repeated := _repeated_key(node, ""):
                raise UserError(f"config: '{path}' {repeated}; give it once")
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"config: '{path}' should be a YAML file, but cannot be read ({error})") from error


def _repeated_key(node: yaml.Node | None, place: str) -> str | None:
    """What is given twice, and in which lines; it is looked for before YAML merges what `<<` refers to."""
    if isinstance(node, yaml.SequenceNode):
        found = (_repeated_key(each, f"{place}{number}.") for number, each in enumerate(node.value))
        return next(filter(None, found), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        name, line = (key.tag, str(key.value)), key.start_mark.line + 1
        if name in lines:
            return f"has '{place}{key.value}' in line {lines[name]} and again in line {line}"
        lines[name] = line
        if below := _repeated_key(value, f"{place}{key.value}."):
            return below
    return None


def check_results(results: str, configurations: Sequence[Path] = ()) -> None:
    """Raises `UserError` unless a run may have this folder to itself.

    It neither is nor holds the project, the working directory, the home folder or one of these configurations; it does
    not lie in the project's source; and if it holds anything, then something that a run has made.
    """
    folder, source = Path(results).resolve(), LIBRARY.parent
    apart = {"the working directory": Path.cwd(), "your home folder": Path("~").expanduser(), "the project": source}
    apart |= {f"the configuration '{path}'": path for path in configurations}
    for what, path in apart.items():
        if path.resolve().is_relative_to(folder):
            raise UserError(f"results: '{results}' should be a folder of its own, but it would hold {what}")
    for part in (LIBRARY, source / "workflow"):
        if folder.is_relative_to(part.resolve()):
            raise UserError(f"results: '{results}' should be a folder of its own, but it lies in '{part.name}'")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"results: '{results}' should be a folder, but it is a file")
    held = [path for path in folder.glob("*") if not path.name.startswith(".")]
    if held and not any(path.name in RUN_MAKES or any((path / name).exists() for name in RUN_MAKES) for path in held):
        raise UserError(
            f"results: '{results}' should be a folder of its own, but it holds '{min(held).name}' and nothing that a "
            "run has made"
        )


def system_config(config: Config, system: str) -> Config:
    """The part of the configuration that describes one system."""
    one_of("system", system, sorted(config["systems"]))
    described = config["systems"][system]
    if missing := [section for section in REQUIRED_SECTIONS if not described.get(section)]:
        raise UserError(f"systems.{system}: the sections {missing} are missing")
    typed(Sampling, described["trajectories"], f"systems.{system}.trajectories")
    evaluation_settings(described, system)
    return described


def evaluation_settings(described: Config, system: str) -> Evaluation:
    """The section `evaluation` of one system, typed."""
    return typed(Evaluation, described["evaluation"], f"systems.{system}.evaluation")


def without_dropped(config: Config) -> Config:
    """The configuration less the entries that a scale laid over it set to null: systems, their sections, methods and
    foundation models, experiments and studies.
    """

    def kept(entries: Mapping[str, Any] | None) -> dict[str, Any]:
        return {name: entry for name, entry in (entries or {}).items() if entry is not None}

    systems = {
        name: kept(system)
        | {part: kept(system[part]) for part in ("methods", "ablations", "foundation") if part in system}
        for name, system in kept(config["systems"]).items()
    }
    others = {section: kept(config[section]) for section in ("experiments", "studies") if section in config}
    return config | {"systems": systems} | others


def study_config(config: Config, study: str) -> Config:
    """The settings of one study."""
    studies = config.get("studies") or {}
    one_of("study", study, sorted(studies))
    return dict(studies[study])


def load_function(name: str, where: str) -> Callable[..., Any]:
    """The function that the setting `where` names as `package.module:function`; `UserError` if it cannot be found."""
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: '{name}' should name a function as 'package.module:function' ({error})") from error


def own_modules(described: Config) -> list[Path]:
    """The files of the modules that a system names, for its factory and its questions, outside of this library.

    They are looked for where Python looks, the working directory first, without being imported; what they import
    themselves is not among them.
    """
    named = [described.get("factory"), (described.get("questions") or {}).get("source")]
    found = [module_file(str(name).partition(":")[0]) for name in named if name]
    return sorted({file for file in found if file is not None and LIBRARY not in file.parents})


def module_file(module: str) -> Path | None:
    """Where Python would find a module, the working directory first, without importing it; None if nowhere."""
    paths: Sequence[str] | None = [str(Path.cwd()), str(LIBRARY.parent), *sys.path]
    spec = None
    for name in module.split("."):
        spec = PathFinder.find_spec(name, paths)
        if spec is None:
            return None
        paths = spec.submodule_search_locations or []
    return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None


def local_data(described: Config) -> list[Path]:
    """The files of a system's data set, where `data.source` names a file or a folder on this machine."""
    source = (described.get("data") or {}).get("source")
    if not isinstance(source, str) or not Path(source).exists():
        return []
    return files_below(Path(source))


def files_below(path: Path) -> list[Path]:
    """A file itself, or all files in a folder that are not hidden, sorted."""
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))


def method_rows(config: Config, system: str) -> dict[str, dict[str, Any]]:
    """Every method of a system, experiment variants included: its row merged over `training`."""
    described = system_config(config, system)
    variants = {name: row for name, row in expand_experiments(config).items() if row["system"] == system}
    rows = dict(described["methods"]) | dict(described.get("ablations") or {})
    # An experiment shows nothing of its trainings, so they are not looked at unless it asks for that.
    unwatched = {"monitor_every": 0}
    rows |= {
        name: merged(rows[variant["method"]], unwatched | variant["overrides"]) for name, variant in variants.items()
    }
    return {name: merged(described["training"], row or {}) for name, row in rows.items()}


def method_settings(config: Config, system: str, method: str) -> MethodSettings:
    """The typed settings of one method; raises `UserError` on an unknown method, key or value."""
    rows = method_rows(config, system)
    one_of("method", method, sorted(rows))
    return typed(MethodSettings, rows[method], f"systems.{system}.methods.{method}")


def expand_experiments(config: Config) -> dict[str, dict[str, Any]]:
    """The grid points of every experiment, by the names of their runs.

    Each is `{experiment, system, method, point, overrides}`: `point` the grid's own coordinates, `overrides` the
    method settings they stand for. A grid's values are scalars, or mappings `{label: settings}` where one coordinate
    sets several settings at once.
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


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mapping by mapping, as Snakemake lays one configuration file over another."""
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if nested else value
    return result
