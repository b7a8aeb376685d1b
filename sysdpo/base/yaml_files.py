"""Reading YAML: a file that is none, or says a thing twice, is refused."""

from pathlib import Path
from typing import Any

import yaml

from sysdpo.base.errors import UserError

SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, which is three times as fast: every step reads the configuration."""


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
