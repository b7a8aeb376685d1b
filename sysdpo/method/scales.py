"""Laying one configuration over another, and leaving out what it drops. No library is needed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sysdpo.base.settings import Name, SomeOf, WrongSetting, read, unknown_name


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mapping by mapping, as Snakemake does with configuration files."""
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if nested else value
    return result


def without_dropped(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what a scale that was laid over it drops.

    These are entries that it sets to null (systems, their sections, methods and foundation models, experiments,
    studies) and, if it has the setting `only`, all other systems and studies, with the experiments on them.

    Raises `UserError` if `only` names something that is not there.
    """

    def kept(entries: Mapping[str, Any] | None) -> dict[str, Any]:
        return {name: entry for name, entry in (entries or {}).items() if entry is not None}

    systems = {
        name: kept(system)
        | {part: kept(system[part]) for part in ("methods", "ablations", "foundation") if part in system}
        for name, system in kept(config["systems"]).items()
    }
    others = {section: kept(config[section]) for section in ("experiments", "studies") if section in config}
    return _selected(config | {"systems": systems} | others)


def _selected(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the systems, studies and experiments that `only` leaves out."""
    only = read(SomeOf[Name] | None, config.get("only"), "only")
    if only is None:
        return config
    check_only(only, config["systems"], config.get("studies") or {})
    chosen: dict[str, Any] = {
        section: {name: entry for name, entry in config[section].items() if name in only}
        for section in ("systems", "studies")
        if config.get(section)
    }
    if config.get("experiments"):
        experiments = config["experiments"].items()
        chosen["experiments"] = {name: entry for name, entry in experiments if entry.get("system") in only}
    return config | chosen


def check_only(only: Sequence[str], systems: Collection[str], studies: Collection[str]) -> None:
    """Raises `UserError` unless the setting `only` names existing systems and studies, and at least one system."""
    for name in only:
        if name not in (*systems, *studies):
            raise WrongSetting(("only",), unknown_name(name, "system or study", [*systems, *studies]))
    if not set(only) & set(systems):
        raise WrongSetting(("only",), f"{list(only)} should name one of the systems {list(systems)}")
