"""Functions and files that a configuration names: where they are, and what depends on them.

No model library is imported here: a workflow may read its configuration quickly.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from sysdpo.base.settings import WrongSetting

LIBRARY = Path(__file__).resolve().parents[1]


def load_function(name: str, where: str) -> Callable[..., Any]:
    """The function that the setting `where` names as `package.module:function`; `UserError` if it cannot be found."""
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        told = f"'{name}' should name a function as 'package.module:function' ({error})"
        raise WrongSetting((where,), told) from error


def own_modules(described: Mapping[str, Any]) -> list[Path]:
    """The files of the modules that a system names, for its factory and its questions, outside of this library.

    They are looked for where Python looks, the working directory first, without being imported; what they import
    themselves is not among them.
    """
    named = [described.get("factory"), (described.get("questions") or {}).get("source")]
    found = [module_file(str(name).partition(":")[0]) for name in named if name]
    return sorted({file for file in found if file is not None and LIBRARY not in file.parents})


def module_file(module: str) -> Path | None:
    """Where Python would find a module, the working directory first, without importing it; None if nowhere."""
    paths: Sequence[str] | None = [str(Path.cwd()), str(LIBRARY.parent), *sys.path]
    spec = None
    for name in module.split("."):
        spec = PathFinder.find_spec(name, paths)
        if spec is None:
            return None
        paths = spec.submodule_search_locations or []
    return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None


def local_data(described: Mapping[str, Any]) -> list[Path]:
    """The files of a system's data set, where `data.source` names a file or a folder on this machine."""
    source = (described.get("data") or {}).get("source")
    if not isinstance(source, str) or not Path(source).exists():
        return []
    return files_below(Path(source))


def files_below(path: Path) -> list[Path]:
    """A file itself, or all files in a folder that are not hidden, sorted."""
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
