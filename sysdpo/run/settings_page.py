"""The table of all settings, and the schema that editors check a configuration against: both made from the models."""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic.json_schema import models_json_schema

from sysdpo.base.files import whole
from sysdpo.base.functions import load_function
from sysdpo.base.settings import NAME, Settings
from sysdpo.base.yaml_files import read_yaml
from sysdpo.method.config import Comparison, Study, SystemSettings
from sysdpo.run import options

Model = type[Settings]

HEAD = """\
# Settings

Every setting of `config.yaml`, and of the scales that are laid over it. `sysdpo settings` writes this page and
`workflow/schemas/config.schema.json`, which editors understand, from the code's own description.

"""


CONFIGURATIONS = ("config.yaml", "workflow/scales/*.yaml")
PAGE, SCHEMA = Path("config/README.md"), Path("workflow/schemas/config.schema.json")


def settings(*, project: Annotated[Path, options.path("The project's folder.", "FOLDER")] = Path()) -> None:
    """Write the table of all settings, and the schema of the configuration, from the code.

    They are config/README.md and workflow/schemas/config.schema.json.
    """
    classes = named_classes([path for pattern in CONFIGURATIONS for path in sorted(project.glob(pattern))])
    for path, text in ((PAGE, page(classes)), (SCHEMA, json.dumps(schema(classes), indent=1) + "\n")):
        with whole(project / path) as temporary:
            temporary.write_text(text)


def named_classes(configurations: Sequence[Path]) -> dict[str, dict[str, Model]]:
    """The classes of settings that configurations name, by section (`systems`, `studies`, `questions`) and factory."""
    found: dict[str, dict[str, Model]] = {"systems": {}, "studies": {}, "questions": {}}
    for path in configurations:
        for section, name in _names(read_yaml(path)):
            named: Any = load_function(name, f"'{path}'")
            if isinstance(named, type) and issubclass(named, Settings):
                found[section].setdefault(name, named)
    return found


def _names(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section in ("systems", "studies"):
        for described in (config.get(section) or {}).values():
            if described and "factory" in described:
                yield section, described["factory"]
            if described and "source" in (described.get("questions") or {}):
                yield "questions", described["questions"]["source"]


def schema(classes: Mapping[str, Mapping[str, Model]]) -> dict[str, Any]:
    """The JSON schema of a whole configuration; systems and studies of known factories have schemas of their own."""
    sections = {"systems": SystemSettings, "studies": Study}
    models: list[Any] = [Comparison, *sections.values()]
    models += [model for named in classes.values() for model in named.values()]
    keys: Any
    keys, described = models_json_schema([(model, "validation") for model in models])
    whole = described["$defs"].pop(keys[Comparison, "validation"]["$ref"].rpartition("/")[2])
    for section, base in sections.items():
        cases = [
            {
                "if": {"properties": {"factory": {"const": name}}, "required": ["factory"]},
                "then": keys[model, "validation"],
            }
            for name, model in classes[section].items()
        ]
        known = {"properties": {"factory": {"enum": list(classes[section])}}, "required": ["factory"]}
        entry = {"allOf": [*cases, {"if": known, "else": keys[base, "validation"]}]}
        whole["properties"][section] |= {"patternProperties": {NAME: entry}, "additionalProperties": False}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "$defs": described["$defs"]}


def page(classes: Mapping[str, Mapping[str, Model]]) -> str:
    """The settings as Markdown: a table for each class, followed by those of the classes within it."""
    parts, done = [HEAD], set[Model]()
    first = [("", Comparison), ("systems.<name>", SystemSettings)]
    named = [
        (f"{section}{'.<name>' if section != 'questions' else ''}, `{name}`", model)
        for section, models in classes.items()
        for name, model in models.items()
    ]
    worlds: list[tuple[str, Any]] = [
        (f"foundation, `{name}`", vars(model)["foundation"]) for name, model in classes["questions"].items()
    ]
    waiting = [*first, *named, *worlds]
    while waiting:
        where, model = waiting.pop(0)
        if model in done:
            continue
        done.add(model)
        inherited = SystemSettings if issubclass(model, SystemSettings) and model is not SystemSettings else None
        own = {
            name: field
            for name, field in model.model_fields.items()
            if inherited is None
            or name not in inherited.model_fields
            or field.annotation != inherited.model_fields[name].annotation
        }
        if own:
            parts.append(_section(where, model, own))
        dotted = where.partition(",")[0]
        below = [
            (f"{dotted}.{name}" if dotted else name, inner)
            for name, field in own.items()
            for inner in _models_in(field.annotation)
        ]
        waiting = [*below, *waiting]
    return "\n".join(parts).rstrip() + "\n"


def _section(where: str, model: Model, fields: Mapping[str, Any]) -> str:
    described = model.model_json_schema()
    title = ", ".join(f"`{part.strip('`')}`" for part in where.split(", ")) if where else "The whole"
    rows = ["| setting | value | default | what it is |", "|---|---|---|---|"]
    for name, field in fields.items():
        part = described["properties"][name]
        default = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        rows.append(f"| `{name}` | {_cell(_value(part, described))} | {default} | {_cell(field.description or '')} |")
    return f"## {title}\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n" + "\n".join(rows) + "\n"


def _default(value: Any) -> str:
    if isinstance(value, Settings):
        return "its own"
    return f"`{json.dumps(value)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "multipleOf": "multiple of"}


def _value(part: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """The values that a setting may have, in words."""
    if "$ref" in part:
        return "a mapping, below"
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(_value(option, whole) for option in part["anyOf"]))
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if "examples" in part:
        return "a name: " + ", ".join(f"`{value}`" for value in part["examples"])
    kind = part.get("type", "anything")
    if kind in ("integer", "number"):
        bounds = " and ".join(f"{sign} {part[name]:g}" for name, sign in BOUNDS.items() if name in part)
        return f"{'a whole number' if kind == 'integer' else 'a number'} {bounds}".rstrip()
    if kind == "array":
        inner = part.get("items") or (part.get("prefixItems") or [{}])[0]
        return f"a list: {_value(inner, whole)}"
    if kind == "object" and isinstance(part.get("additionalProperties"), dict):
        return f"a mapping by name: {_value(part['additionalProperties'], whole)}"
    words = {"string": "a text", "boolean": "`true` or `false`", "object": "a mapping", "null": "`null`"}
    return words.get(kind, kind)


def _models_in(kind: Any) -> list[Model]:
    if isinstance(kind, type) and issubclass(kind, Settings):
        return [kind]
    return [model for argument in getattr(kind, "__args__", ()) for model in _models_in(argument)]
