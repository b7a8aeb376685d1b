"""Names that a configuration may use, and the entries registered under them."""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Generic, TypeVar

from sysdpo.base.errors import UserError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """The entries of one kind by name, a mapping in the order of their registration.

    kind: what errors call an entry, `objective` for example. package: all its modules are imported before the first
    lookup, so that adding a file to it adds an entry.
    """

    def __init__(self, kind: str, package: str | None = None):
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """A decorator that registers an entry under a name; raises `UserError` if another one has that name."""

        def put(entry: Entry) -> Entry:
            before = self._entries.setdefault(name, entry)
            if _origin(before) != _origin(entry):
                raise UserError(f"{self.kind}: '{name}' is there already; give yours another name")
            self._entries[name] = entry
            return entry

        return put

    def named(self, name: str, where: str) -> Entry:
        """The entry of this name; raises `UserError` if there is none.

        where: the setting that gave the name, for the error.
        """
        if name not in self:
            raise UserError(f"{where}: '{name}' should be one of {list(self)}")
        return self[name]

    def _load(self) -> dict[str, Entry]:
        if self._package is not None:
            package, self._package = self._package, None
            import_all(import_module(package))
        return self._entries

    def __getitem__(self, name: str) -> Entry:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


def import_all(package: ModuleType) -> None:
    """Import every module of a package, sorted by name."""
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        import_module(f"{package.__name__}.{module.name}")


def _origin(entry: object) -> tuple[object, object]:
    """Identifies an entry across a second import of its module, which makes equal but distinct objects."""
    return getattr(entry, "__module__", None), getattr(entry, "__qualname__", id(entry))
