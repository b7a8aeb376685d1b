"""Reading YAML; a repeated key is an error."""

from pathlib import Path
from typing import Any

import yaml

from sysdpo.base.errors import UserError

SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's loader is three times as fast, and every step reads the configuration."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; raises `UserError` if it cannot be read, or repeats a key in a mapping."""
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


def _repeated_key(node: yaml.Node | None, prefix: str) -> str | None:
    """The first repeated key and its two lines, or None; checked before YAML merges what `<<` refers to."""
    if isinstance(node, yaml.SequenceNode):
        repeated = (_repeated_key(item, f"{prefix}{number}.") for number, item in enumerate(node.value))
        return next(filter(None, repeated), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    lines: dict[tuple[str, str], int] = {}
    for key, value in node.value:
        name, line = (key.tag, str(key.value)), key.start_mark.line + 1
        if name in lines:
            return f"has '{prefix}{key.value}' in line {lines[name]} and again in line {line}"
        lines[name] = line
        if repeated_below := _repeated_key(value, f"{prefix}{key.value}."):
            return repeated_below
    return None
