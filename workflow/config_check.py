"""Stops the workflow before any job when the configuration is wrong, with one sentence on what and where."""

import difflib
import math
import pkgutil
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

from sysdpo.base.config import LIBRARY, check_results, method_rows, method_settings, module_file, read_yaml
from sysdpo.base.errors import UserError, printable
from sysdpo.report.claim_file import check_claims
from sysdpo.report.figure import figure_name

FIGURES = LIBRARY / "report" / "figures"
TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
NOT_BEFORE_A_LINE_BREAK = r"(?!\n)"  # how the schema's patterns end
BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "above",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
    "pattern": "of the form",
}


def stop_if_wrong(config: Mapping[str, Any], schema: Path, files: Collection[Path]) -> None:
    """Ends the program with exit code 2 if `config` breaks the schema in the file or contradicts itself, or if one of
    the files that it was read from does.
    """
    problem = (
        wrong_file(files)
        or not_finite(config)
        or broken_rule(config, read_schema(schema))
        or contradiction(config)
        or wrong_claims(config)
        or wrong_figures(config)
        or wrong_results(config["results"], files)
    )
    if problem:
        print(printable(f"Error in the configuration: {problem}"), file=sys.stderr)
        sys.exit(2)


def read_schema(path: Path) -> dict[str, Any]:
    """The schema in a file, with the definitions of the files beside it."""
    schema = yaml.safe_load(path.read_text())
    for beside in sorted(path.parent.glob("*.schema.yaml")):
        schema["$defs"] |= yaml.safe_load(beside.read_text())["$defs"]
    return schema


def broken_rule(config: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """One sentence about the most telling violation of `schema`; None when there is none."""
    error = best_match(Draft202012Validator(schema).iter_errors(config))
    return sentence(error, schema) if error else None


def wrong_file(files: Collection[Path]) -> str | None:
    """One sentence about a key that a file gives twice, of which Snakemake has kept the last; None where none does."""
    try:
        for path in files:
            read_yaml(path)
    except UserError as error:
        return f"{error}."
    return None


def wrong_results(results: str, files: Collection[Path]) -> str | None:
    """One sentence about a folder of results that a run would share with something else; None where it is its own."""
    try:
        check_results(results, list(files))
    except UserError as error:
        return f"{error}."
    return None


def wrong_claims(config: Mapping[str, Any]) -> str | None:
    """One sentence about a file of claims that is none, or does not fit the configuration; None if all is well."""
    try:
        check_claims(dict(config))
    except UserError as error:
        return f"{error}."
    return None


def wrong_figures(config: Mapping[str, Any]) -> str | None:
    """One sentence about a figure that is neither one of the package's files nor in a module that is there."""
    known = sorted(file.name for file in pkgutil.iter_modules([str(FIGURES)]))
    for system, described in config["systems"].items():
        references, where = described["figures"], f"systems.{system}.figures"
        for reference in references:
            module, own, _ = reference.partition(":")
            if own and module_file(module) is None:
                return f"{where}: {reference} should name a function as package.module:function."
            if not own and reference not in known:
                return f"{where}: {unknown(reference, 'figure', known)}"
        names = [figure_name(reference) for reference in references]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            return f"{where}: {twice[0]} should be the name of one figure alone."
    return None


def not_finite(part: Any, place: str = "") -> str | None:
    """One sentence about a number that is infinite or none at all: a schema's bounds let those pass."""
    if isinstance(part, float) and not math.isfinite(part):
        return f"{place} is {part}, but should be a finite number."
    named = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list) else ()
    found = (not_finite(value, f"{place}.{name}" if place else str(name)) for name, value in named)
    return next(filter(None, found), None)


def contradiction(config: Mapping[str, Any]) -> str | None:
    """One sentence about a name that names nothing or a method that makes no sense; None if all is well."""
    for name, system in config["systems"].items():
        rows = system["methods"] | (system.get("ablations") or {})
        if twice := sorted(set(system["methods"]) & set(system.get("ablations") or {})):
            return f"systems.{name}.ablations: {twice[0]} is one of the methods already; it needs a name of its own."
        for baseline in system["baselines"]:
            if baseline not in rows:
                return f"systems.{name}.baselines: {unknown(baseline, 'method', rows)}"
        for method, row in rows.items():
            for component, source in ((row or {}).get("take") or {}).items():
                trained = [each for each, other in rows.items() if (other or {}).get("objective") != "none"]
                if source not in trained:
                    place = f"systems.{name}: {method}.take.{component}"
                    return f"{place}: {unknown(source, 'method that trains', trained)}"
        for section, split in (("trajectories", "train"), ("evaluation", "test")):
            shards, prompts = system[section].get("shards", 1), system.get("prompts", {}).get(split, math.inf)
            if shards > prompts:
                place = f"systems.{name}.{section}.shards"
                return f"{place} is {shards}, but should be at most {prompts}, the {split} prompts."
    for name, experiment in (config.get("experiments") or {}).items():
        if experiment["system"] not in config["systems"]:
            return f"experiments.{name}.system: {unknown(experiment['system'], 'system', config['systems'])}"
        described = config["systems"][experiment["system"]]
        methods = described["methods"] | (described.get("ablations") or {})
        for method in experiment["methods"]:
            if method not in methods:
                return f"experiments.{name}.methods: {unknown(method, 'method', methods)}"
    try:
        for system in config["systems"]:
            for method in method_rows(dict(config), system):
                method_settings(dict(config), system, method)
    except UserError as error:
        return f"{error}."
    return None


def unknown(name: str, kind: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}."
    return f"{name} is no {kind}; {remedy}"


def sentence(error: ValidationError, schema: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error.absolute_path)
    dotted = f"{place}." if place else ""
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        key = next(str(key) for key in error.instance if key not in known)
        return f"{dotted}{unknown(key, 'setting', known)}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        described = described_at(schema, [*list(error.absolute_schema_path)[:-1], "properties", missing])
        return f"{dotted}{missing} is missing{described}."
    described = described_at(schema, list(error.absolute_schema_path)[:-1])
    return f"{place} is {error.instance!r}, but should be {expectation(error)}{described}."


def expectation(error: ValidationError) -> str:
    allowed = error.validator_value
    match error.validator:
        case "type":
            kinds = [allowed] if isinstance(allowed, str) else allowed
            text = " or ".join(TYPES[kind] for kind in kinds)
            return text + exponent_hint(error.instance) if "number" in kinds else text
        case "enum":
            return "one of " + ", ".join(str(choice) for choice in allowed)
        case "minItems" | "maxItems" if allowed > 1:
            return f"a list of {allowed}"
        case "minItems" | "minProperties":
            return "not empty"
        case "uniqueItems":
            return "without repetitions"
    return f"{BOUNDS[str(error.validator)]} {str(allowed).removesuffix(NOT_BEFORE_A_LINE_BREAK)}"


def exponent_hint(value: object) -> str:
    """YAML reads 2e-4 as a text: a number with an exponent needs its point."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value, re.IGNORECASE):
        return f" (YAML wants the point: {float(value):.1e})"
    return ""


def described_at(schema: Mapping[str, Any], path: list[Any]) -> str:
    """What the schema says that the setting at this schema path is for, in brackets; or nothing."""
    said = [part["description"] for part in referred(schema, part_at(schema, schema, path)) if "description" in part]
    return f" ({said[0]})" if said else ""


def part_at(schema: Mapping[str, Any], part: Any, path: list[Any]) -> Any:
    """The part of the schema at a path as jsonschema gives it: without the references it went through."""
    if not path:
        return part
    for candidate in referred(schema, part):
        if path[0] in candidate and (found := part_at(schema, candidate[path[0]], path[1:])) is not None:
            return found
    return None


def referred(schema: Mapping[str, Any], part: Any) -> list[Mapping[str, Any]]:
    """The part, and all that it refers to."""
    parts = [part] if isinstance(part, Mapping) else []
    while parts and "$ref" in parts[-1]:
        parts.append(schema["$defs"][parts[-1]["$ref"].removeprefix("#/$defs/")])
    return parts
