"""Values as JSON that reads back as what it was: tuples stay tuples, keys stay numbers, bytes stay bytes."""

from collections.abc import Callable, Mapping
from typing import Any

Other = Callable[[Any], Mapping[str, Any] | None]


def pack(value: Any, other: Other = lambda _: None) -> Any:
    """`value` in terms of JSON, for `unpack`.

    other: for a value of a kind of its own, a mapping of one key, else None. Raises `TypeError` on a value that is
    neither of such a kind nor made of mappings, lists, tuples, texts, bytes, numbers, truth values and None.
    """
    if (named := other(value)) is not None:
        return named
    match value:
        case Mapping():
            return {"map": [[pack(key, other), pack(each, other)] for key, each in value.items()]}
        case tuple():
            return {"tuple": [pack(each, other) for each in value]}
        case list():
            return [pack(each, other) for each in value]
        case bytes():
            return {"bytes": value.hex()}
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError(f"a value of the type {type(value).__name__}")


def unpack(value: Any, other: Callable[[str, Any], Any] | None = None) -> Any:
    """What `pack` was given. other: from the key and what it stands for to a value of a kind of its own."""
    if isinstance(value, list):
        return [unpack(each, other) for each in value]
    if not isinstance(value, Mapping):
        return value
    ((key, content),) = value.items()
    match key:
        case "map":
            return {unpack(name, other): unpack(each, other) for name, each in content}
        case "tuple":
            return tuple(unpack(each, other) for each in content)
        case "bytes":
            return bytes.fromhex(content)
        case _ if other is not None:
            return other(key, content)
    raise ValueError(f"'{key}' is no kind of value")
