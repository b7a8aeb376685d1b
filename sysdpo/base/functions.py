"""Finds the functions, modules and data files that a configuration names.

Imports no model library, so that a workflow can read its configuration quickly.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from sysdpo.base.settings import WrongSetting

LIBRARY = Path(__file__).resolve().parents[1]


def load_function(name: str, where: str) -> Callable[..., Any]:
    """The function that the setting `where` names as `package.module:function`, or as `path/to/file.py:function`.

    Raises `UserError` if it cannot be found.
    """
    module, _, function = name.rpartition(":")
    try:
        return getattr(import_named(module), function)
    except (ImportError, AttributeError, ValueError, OSError) as error:
        message = f"'{name}' should name a function as 'package.module:function' or 'file.py:function' ({error})"
        raise WrongSetting((where,), message) from error


def import_named(module: str) -> ModuleType:
    """A module by its dotted name, or by its file's path; that file may also import from its own folder."""
    if not module.endswith(".py"):
        return import_module(module)
    path = Path(module).resolve()
    name = f"{path.stem}_in_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportError(f"there is no file '{module}'")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = loaded = module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded


def import_plugins(names: Sequence[str]) -> None:
    """Import modules that register what a configuration may name; raises `UserError` if a module does not exist.

    A plugin that needs a library missing here is skipped: steps in an environment that has it import it.
    """
    for name in names:
        try:
            import_named(name)
        except ModuleNotFoundError as error:
            if error.name is None or f"{name}.".startswith(f"{error.name}."):
                raise WrongSetting(("plugins",), f"there is no module '{name}' ({error})") from error
        except (ImportError, OSError) as error:
            raise WrongSetting(("plugins",), f"'{name}' cannot be imported ({error})") from error


def own_modules(described: Mapping[str, Any]) -> list[Path]:
    """The files of the modules that a system names for its factory and its questions, outside of this library.

    They are found as Python would, the working directory first, but not imported; their own imports are not included.
    """
    references = [described.get("factory"), (described.get("questions") or {}).get("source")]
    files = [module_file(str(name).rpartition(":")[0]) for name in references if name]
    return sorted({file for file in files if file is not None and LIBRARY not in file.parents})


def module_file(module: str) -> Path | None:
    """The file of a module, named with dots or by its path, without importing it; None if there is none.

    The working directory is searched first.
    """
    if module.endswith(".py"):
        return Path(module).resolve() if Path(module).is_file() else None
    paths: Sequence[str] | None = [str(Path.cwd()), str(LIBRARY.parent), *sys.path]
    spec = None
    for name in module.split("."):
        spec = PathFinder.find_spec(name, paths)
        if spec is None:
            return None
        paths = spec.submodule_search_locations or []
    return Path(spec.origin).resolve() if spec and spec.has_location and spec.origin else None


def local_data(described: Mapping[str, Any]) -> list[Path]:
    """The files of a system's data on this machine, all those below a folder: `data.source`, and what the factory says
    that it reads, its attribute `data`.
    """
    sources = [Path(source)] if isinstance(source := (described.get("data") or {}).get("source"), str) else []
    try:
        named = getattr(load_function(str(described.get("factory", "")), "factory"), "data", ())
    except WrongSetting:  # it, or a library that it needs, is not here
        named = ()
    sources += [path for path in named if isinstance(path, Path)] if isinstance(named, (list, tuple)) else []
    return [file for source in sources if source.exists() for file in files_below(source)]


def files_below(path: Path) -> list[Path]:
    """The file itself, or all files in a folder except hidden ones, sorted."""
    if path.is_file():
        return [path]
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in files if not any(name.startswith(".") for name in file.relative_to(path).parts))
