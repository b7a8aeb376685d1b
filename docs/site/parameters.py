"""An extension of griffe: what docstrings say of parameters, `beta: …`, as the sections that mkdocstrings shows."""

import re
from collections.abc import Collection
from typing import Any

import griffe

ENTRY = re.compile(r"(?:^|(?<=[.;] ))(?P<names>\w+(?:, \w+)*): ")
END = re.compile(r"(?<=[.;] )(?=(?:Returns|Raises) )")


class Parameters(griffe.Extension):
    """Rewrites the docstrings of functions and classes before they are parsed."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Of a function its parameters."""
        _rewrite(func, [parameter.name for parameter in func.parameters], "Args")

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Of a class the parameters of its `__init__`, or else its attributes."""
        made = cls.members.get("__init__")
        if isinstance(made, griffe.Function):
            _rewrite(cls, [parameter.name for parameter in made.parameters], "Args")
        else:
            _rewrite(cls, list(cls.attributes), "Attributes")


def _rewrite(item: griffe.Object, names: Collection[str], heading: str) -> None:
    if item.docstring is None:
        return
    before, entries, after = split(item.docstring.value, names)
    if entries:
        listed = "\n".join(f"    {name}: {said}" for name, said in entries)
        item.docstring.value = "\n\n".join([*before, f"{heading}:\n{listed}", *after])


def split(docstring: str, names: Collection[str]) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """The paragraphs of a docstring before it speaks of these names, what it says of each, and the paragraphs after."""
    before: list[str] = []
    entries: list[tuple[str, str]] = []
    after: list[str] = []
    for paragraph in docstring.split("\n\n"):
        line = " ".join(paragraph.split())
        found = [match for match in ENTRY.finditer(line) if set(match["names"].split(", ")) <= {*names}]
        if not found:
            (after if entries else before).append(paragraph)
            continue
        if first := line[: found[0].start()].strip():
            (after if entries else before).append(first)
        ends = [match.start() for match in found[1:]] + [len(line)]
        for match, end in zip(found, ends, strict=True):
            said, *more = END.split(line[match.end() : end].strip(), maxsplit=1)
            entries += [(name, _sentence(said)) for name in match["names"].split(", ")]
            after += more
    return before, entries, after


def _sentence(text: str) -> str:
    """As it stands in a list: with a capital and an end."""
    text = text.rstrip(" ;.") + "."
    return text if text[0] in "`'" else text[0].upper() + text[1:]
