"""Settings as pydantic models, the only description of each: type, bounds, default and purpose.

A mistake is reported in one sentence: the setting, its value and what would be right. `sysdpo settings` generates the
documentation's table and the editors' schema from the same models. No model library is imported here: Snakemake reads
the configuration in an environment without one.
"""

import difflib
import math
import re
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from sysdpo.base.errors import UserError

Value = TypeVar("Value")

LARGEST = 10**9
"""The largest magnitude a number in a configuration may have; a larger one is a typo."""

NAME = r"^[a-z][a-z0-9_]*$"
METHOD_NAME = r"^[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)?$"
MODULE = r"([A-Za-z_][A-Za-z0-9_.]*|[\w./+@=-]+\.py)"
FUNCTION = rf"^{MODULE}:[A-Za-z_][A-Za-z0-9_]*$"
FORMS = {
    NAME: "a name of small letters, digits and underscores, a letter first",
    METHOD_NAME: "a name of small letters, digits and underscores, a letter first, or two with + between them",
    rf"^{MODULE}$": "a module, as package.module or path/to/file.py",
    FUNCTION: "a function or class, as package.module:name or path/to/file.py:name",
}
"""What an error calls a text that matches a pattern."""


def _check_finite(value: Value) -> Value:
    """Checks every number in a setting whose keys are defined by another library."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} should be a finite number")
    if isinstance(value, (int, float)) and abs(value) > LARGEST:
        raise ValueError(f"{value} should be at least {-LARGEST} and at most {LARGEST}")
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    for item in items:
        _check_finite(item)
    return value


def _check_distinct(values: Value) -> Value:
    items = list(typing.cast("Collection[Any]", values))
    if len(set(items)) < len(items):
        raise ValueError(f"{items} should be without repetitions")
    return values


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Count = Annotated[int, Field(ge=1, le=10**7)]
Whole = Annotated[int, Field(ge=0, le=10**7)]
Seed = Annotated[int, Field(ge=0, le=LARGEST)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
ProperShare = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(pattern=NAME)]
MethodName = Annotated[str, Field(pattern=METHOD_NAME)]
ModuleName = Annotated[str, Field(pattern=rf"^{MODULE}$")]
FunctionName = Annotated[str, Field(pattern=FUNCTION)]
Free = Annotated[Mapping[str, Any], AfterValidator(_check_finite)]
"""A mapping for another library, passed on unchanged."""
ListOf = Annotated[tuple[Value, ...], BeforeValidator(_as_tuple)]
SetOf = Annotated[tuple[Value, ...], BeforeValidator(_as_tuple), AfterValidator(_check_distinct)]
SomeOf = Annotated[tuple[Value, ...], Field(min_length=1), BeforeValidator(_as_tuple), AfterValidator(_check_distinct)]
Seeds = SomeOf[Seed]
PairOf = Annotated[tuple[Value, Value], BeforeValidator(_as_tuple)]
DType = Literal["float32", "bfloat16", "float16"]


class WrongSetting(UserError):
    """A mistake in the setting at `path`, relative to the settings being read."""

    def __init__(self, path: Sequence[object], what: str):
        self.path, self.what = tuple(map(str, path)), what
        super().__init__(f"{'.'.join(self.path)}: {what}" if self.path else what)


class Settings(BaseModel):
    """Base of all settings: strict types, no unknown keys, immutable.

    Raises `WrongSetting`, one sentence about the first mistake.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    def __init__(self, /, **values: Any):
        # Nested settings are built here too: each reports its own mistakes, and the enclosing one adds the path.
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _first_mistake(error, type(self)) from error

    @classmethod
    def read(cls, values: Any, where: str) -> Self:
        """The settings in the mapping `values`; None stands for an empty one.

        where: the name of the setting that has these values, with which the `UserError` about a mistake begins.
        """
        return read(cls, {} if values is None else values, where)

    @classmethod
    def pop_from(cls, values: dict[str, Any]) -> Self:
        """The settings that some of `values` are, which are taken out of it."""
        return cls(**{name: values.pop(name) for name in cls.model_fields if name in values})

    @property
    def fields(self) -> dict[str, Any]:
        """The values of all fields, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def changed(self, **values: Any) -> Self:
        """A copy with some values replaced, validated again."""
        return type(self)(**self.fields | values)


def read(kind: Any, values: Any, where: str) -> Any:
    """The values as type `kind`; raises `UserError`, one sentence about the first mistake.

    where: the name of the setting that has these values; the sentence begins with it.
    """
    is_model = isinstance(kind, type) and issubclass(kind, BaseModel)
    config = None if is_model else ConfigDict(strict=True, allow_inf_nan=False)
    try:
        return TypeAdapter(kind, config=config).validate_python(values)
    except ValidationError as error:
        mistake = _first_mistake(error, kind if is_model else None)
    except WrongSetting as error:
        mistake = error
    raise WrongSetting((where, *mistake.path), mistake.what) from None


def one_of(name: str, value: str, known: Collection[str]) -> None:
    """Raises `UserError` unless the setting `name` has one of the known values."""
    if value not in known:
        raise WrongSetting((name,), f"'{value}' should be one of {list(known)}")


def at_least(name: str, value: int, least: int) -> None:
    """Raises `UserError` unless the setting `name` is at least `least`."""
    if value < least:
        raise WrongSetting((name,), f"{value} should be at least {least}")


def without(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """The settings except those with these names."""
    return {name: value for name, value in settings.items() if name not in names}


KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "none_required": "null",
    "finite_number": "a finite number",
}
BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
    "multiple_of": ("multiple_of", "a multiple of"),
}


def _first_mistake(error: ValidationError, kind: type[BaseModel] | None) -> WrongSetting:
    """The first mistake; for a value of a union type, what each of its types would accept."""
    errors = error.errors(include_url=False)
    # An unknown key says more than a missing one, and often is the same typo.
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    path = _path(first["loc"])
    match first["type"]:
        case "extra_forbidden":
            return WrongSetting(
                path[:-1], f"unknown key {_unknown_key(str(path[-1]), list(kind.model_fields if kind else ()))}"
            )
        case "missing" if isinstance(first["loc"][-1], int):
            return WrongSetting(path[:-1], f"it should be a list of {first['loc'][-1] + 1}")
        case "missing":
            missing = sorted(str(entry["loc"][-1]) for entry in errors if entry["type"] == "missing")
            return WrongSetting(path[:-1], f"the keys {missing} are missing")
        case "value_error":
            reason = first["ctx"]["error"]
            inner = reason if isinstance(reason, WrongSetting) else WrongSetting((), str(reason))
            return WrongSetting((*path, *inner.path), inner.what)
    kinds = dict.fromkeys(_wanted(entry) for entry in errors if _path(entry["loc"]) == path)
    if kinds.keys() & {"a number", "a finite number"}:
        kinds.pop("a whole number", None)
    wanted = " or ".join(kinds)
    value = list(first["input"]) if isinstance(first["input"], tuple) else first["input"]
    return WrongSetting(path, f"{value!r} should be {wanted}{_exponent_hint(value, wanted)}")


def _unknown_key(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"'{name}'; did you mean '{close[0]}'?" if close else f"'{name}'; known are {sorted(known)}"


def unknown_name(name: str, kind: str, known: Collection[str]) -> str:
    """The sentence about a name that is no `kind`, such as `method`."""
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
    return f"'{name}' is no {kind}; {remedy}"


def _path(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The location of a mistake without pydantic's markers for the types of a union and for keys."""
    return tuple(key for key in loc if not re.search(r"[\[(]|^(int|float|str|bool)$", str(key)))


def _wanted(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in KINDS:
        return KINDS[kind]
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        bound = context[name]
        return f"{words} {bound:.15g}" if isinstance(bound, float) else f"{words} {bound}"
    if kind == "string_pattern_mismatch":
        return FORMS.get(context["pattern"], f"of the form {context['pattern']}")
    if kind == "literal_error":
        return f"one of [{context['expected'].replace(' or ', ', ')}]"
    if kind in ("too_short", "too_long"):
        size = context.get("min_length", context.get("max_length"))
        return "not empty" if kind == "too_short" and size == 1 else f"a list of {size}"
    return str(error["msg"])


def _exponent_hint(value: object, wanted: str) -> str:
    """YAML reads 2e-4 as a string: a number with an exponent needs a decimal point."""
    if "number" in wanted and isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value, re.IGNORECASE):
        return f" (YAML wants the point: {float(value):.1e})"
    return ""
