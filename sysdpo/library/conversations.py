"""TRL's conversations as texts: https://huggingface.co/docs/trl/dataset_formats."""

from collections.abc import Mapping, Sequence
from typing import Any

from sysdpo.base.errors import UserError

SIDES = ("chosen", "rejected", "completion")


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages, each with a role and a content."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(message, Mapping) and {"role", "content"} <= set(message) for message in value)
    )


def from_conversations(row: dict[str, Any], number: int) -> dict[str, Any]:
    """A row with the user's message as `prompt`, the system's as `system`, and the assistant's in place of the others.

    A prompt that chosen and rejected begin with is taken out of them. Raises `UserError` for more than one turn, which
    a node that reads one text cannot be given.
    """
    where = f"preferences: row {number}"
    values = {name: list(value) for name, value in row.items() if _may_be(name) and is_conversation(value)}
    if not values:
        return row
    sides = [values[name] for name in SIDES if name in values]
    if "prompt" not in row and sides:
        values["prompt"] = sides[0][:-1]
        if any(side[:-1] != values["prompt"] for side in sides):
            raise UserError(f"{where}: chosen and rejected should differ in their last message alone")
    told = {name: value for name, value in row.items() if name not in values}
    for message in values.get("prompt", ()):
        if message["role"] not in ("system", "user") or ("prompt" if message["role"] == "user" else "system") in told:
            raise UserError(
                f"{where}: its prompt should be one message of the user's, after at most one of the system's"
            )
        told["prompt" if message["role"] == "user" else "system"] = message["content"]
    for name in SIDES:
        if name in values:
            last = values[name][-1]
            if last["role"] != "assistant" or ("prompt" in row and len(values[name]) != 1):
                raise UserError(f"{where}, {name}: it should be one message of the assistant's")
            told[name] = last["content"]
    return told


def _may_be(name: str) -> bool:
    return name == "prompt" or name in SIDES
