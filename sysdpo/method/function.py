"""Deterministic nodes: parsers, tools, frozen retrievers. They contribute a factor of 1."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from sysdpo.base.errors import UserError
from sysdpo.base.functions import load_function
from sysdpo.method.fixed import Fixed
from sysdpo.method.values import plain

OWN = "sysdpo."


class Function(Fixed):
    """A node whose value is `function(*parents)`, a factor of 1 in the system's probability.

    A function of this library, or a `functools.partial` of one with keywords, is saved with a system by its name. Your
    own is not, since loading a folder would then run whatever the folder names; pass it to `System.load`.

    function: gets the parents' values in order, a generated text as a `str`; it must not return None.
    """

    is_deterministic: Literal[True] = True

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        self.function = function
        self.made_from = _named(function)

    @classmethod
    def from_pretrained(cls, function: str, keywords: Mapping[str, Any]) -> "Function":
        """A function of this library by its name, `module:name`; raises `UserError` for any other.

        keywords: arguments that are bound to it.
        """
        if function.startswith(OWN):  # to look at others would be to run their modules
            found = load_function(function, "function")
            made = cls(partial(found, **keywords) if keywords else found)
            if made.made_from is not None and made.made_from["function"] == function:
                return made
        raise UserError(f"function: '{function}' should be a function of sysdpo; others are given to `load`")

    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Any]:
        """`function(*condition)` for each condition; the seeds have no effect."""
        return [self.function(*map(plain, condition)) for condition in conditions]


def _named(function: Any) -> dict[str, Any] | None:
    """The arguments that `from_pretrained` makes this function from; None if it is not of this library."""
    keywords = dict(function.keywords) if isinstance(function, partial) and not function.args else {}
    found = function.func if isinstance(function, partial) and not function.args else function
    module, name = getattr(found, "__module__", None) or "", getattr(found, "__qualname__", "")
    if not module.startswith(OWN) or not name.isidentifier():  # a lambda's name, say, is none
        return None
    return {"function": f"{module}:{name}", "keywords": keywords}
