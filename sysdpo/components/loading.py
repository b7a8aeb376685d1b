"""Loading anything in `from_pretrained` format, with an error a user can read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sysdpo.errors import UserError


def load_pretrained(load: Callable[..., Any], model: str | Path, *arguments: Any, **settings: Any) -> Any:
    """`load(model, …)`; a folder or hub id that holds no such model raises `UserError`."""
    try:
        return load(str(model), *arguments, **settings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"model: '{model}' cannot be loaded; it should be a hub id or a local folder in from_pretrained format "
            f"({type(error).__name__}: {reason})"
        ) from error
