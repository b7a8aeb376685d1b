"""Values as JSON that can be read back exactly: tuples stay tuples, numeric keys numbers, bytes bytes."""

from collections.abc import Callable, Mapping
from typing import Any

Other = Callable[[Any], Mapping[str, Any] | None]


def pack(value: Any, other: Other = lambda _: None) -> Any:
    """`value` as JSON types, for `unpack`.

    other: returns a mapping with one key for values of further types, else None. Raises `TypeError` on anything else
    that is not made of mappings, lists, tuples, strings, bytes, numbers, booleans and None.
    """
    if (named := other(value)) is not None:
        return named
    match value:
        case Mapping():
            return {"map": [[pack(key, other), pack(item, other)] for key, item in value.items()]}
        case tuple():
            return {"tuple": [pack(item, other) for item in value]}
        case list():
            return [pack(item, other) for item in value]
        case bytes():
            return {"bytes": value.hex()}
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"a value of the type {type(value).__name__}")


def unpack(value: Any, other: Callable[[str, Any], Any] | None = None) -> Any:
    """The inverse of `pack`. other: returns the value of a further type from its key and content."""
    if isinstance(value, list):
        return [unpack(item, other) for item in value]
    if not isinstance(value, Mapping):
        return value
    ((key, content),) = value.items()
    match key:
        case "map":
            return {unpack(name, other): unpack(item, other) for name, item in content}
        case "tuple":
            return tuple(unpack(item, other) for item in content)
        case "bytes":
            return bytes.fromhex(content)
        case _ if other is not None:
            return other(key, content)
    raise ValueError(f"'{key}' is no kind of value")
