"""Files that libraries write in an order of chance, put into one order: equal adapters are then equal files.

PEFT writes sets, whose order differs from process to process; so does that of the metadata in a safetensors file.
"""

import json
from pathlib import Path
from typing import Any


def put_in_order(folder: Path) -> None:
    """Rewrite the configurations (`*config.json`) and the safetensors files in a folder; their meaning stays."""
    for path in sorted(folder.rglob("*config.json")):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(_sorted(content), indent=2, sort_keys=True) + "\n")
    for path in sorted(folder.rglob("*.safetensors")):
        _order_metadata(path)


def _sorted(content: Any) -> Any:
    """With its lists of names sorted: to PEFT they are sets."""
    if isinstance(content, dict):
        return {key: _sorted(value) for key, value in content.items()}
    if isinstance(content, list) and all(isinstance(each, str) for each in content):
        return sorted(content)
    return content


def _order_metadata(path: Path) -> None:
    """The header is JSON, padded with spaces to its length, an unsigned number of eight bytes before it."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) <= length:
            file.seek(8)
            file.write(ordered.ljust(length))
