"""Finding a system or a benchmark that a command names by its file."""

from collections.abc import Callable
from typing import Any

from sysdpo.base.errors import UserError
from sysdpo.base.functions import import_named
from sysdpo.library import benchmark as library
from sysdpo.library.checking import sentence
from sysdpo.method.benchmark import Benchmark
from sysdpo.method.system import System

USUAL = ("benchmark", "system", "make")
"""The names that are looked for where none is given."""


def find(target: str) -> Benchmark | Callable[[], System]:
    """What `file.py:name` or `package.module:name` is: a benchmark, or else what makes a system.

    A function without arguments may make either. Raises `UserError` if the module cannot be imported, or if there is
    nothing of the kind.
    """
    module, _, name = target.partition(":")
    try:
        loaded = import_named(module)
    except Exception as error:
        raise UserError(sentence(f"'{module}'", error)) from error
    names = [name] if name else [usual for usual in USUAL if hasattr(loaded, usual)]
    if not names or not hasattr(loaded, names[0]):
        told = f"'{name}', which it does not have" if name else f"none of {list(USUAL)}"
        raise UserError(f"'{module}' should have a benchmark or a system, named as '{module}:name'; there is {told}")
    found: Any = getattr(loaded, names[0])
    where = f"'{module}:{names[0]}'"
    if not _is_made(found):
        if isinstance(found, type) or not callable(found):
            raise UserError(f"{where} should be a benchmark, a system, or a function that makes one; it is {found!r}")
        try:
            found = found()
        except Exception as error:
            raise UserError(sentence(where, error)) from error
        if not _is_made(found):
            raise UserError(f"{where} should make a benchmark or a system; it made a {type(found).__name__}")
    return (lambda: found) if isinstance(found, System) else found


def _is_made(found: Any) -> bool:
    """Whether it is a benchmark or a system."""
    if isinstance(found, System | library.Benchmark):  # whose system is only made where it is asked for
        return True
    return not isinstance(found, type) and isinstance(found, Benchmark)
