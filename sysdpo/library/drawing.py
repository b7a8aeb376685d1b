"""A system's graph as text, for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from sysdpo.method.component import Deterministic
from sysdpo.method.function import Function
from sysdpo.method.system import System


def draw(system: System) -> str:
    """A line for each variable, with arrows from those that it is generated from, and what generates it."""
    parents = {node.name: node.parents for node in system.nodes}
    lines = _staircase([*system.inputs, *parents], parents)
    words = ["input"] * len(system.inputs)
    for node in system.nodes:
        said = _kind(system.components[node.component])
        shared = f", shared with '{node.component}'" if node.component != node.name else ""
        words.append(f"{said}{shared}{', output' if node.name in system.outputs else ''}")
    width = max(map(len, lines))
    return "\n".join(f"{line:<{width}}   {said}" for line, said in zip(lines, words, strict=True))


def _kind(component: Any) -> str:
    if isinstance(component, Function):
        return f"function {function_name(component.function)}"
    kind = type(component).__name__
    if isinstance(component, Deterministic):
        return f"function {kind}"
    count = sum(weight.numel() for weight in component.trainable_parameters())
    return f"trainable {kind} ({count:,} weights)" if count else f"frozen {kind}"


def function_name(function: Any) -> str:
    """What a function is called in its code."""
    return str(getattr(function, "__name__", type(function).__name__))


def _staircase(names: Sequence[str], parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Every name three columns to the right of the one above it, with lines from its parents down to it."""
    rows_of = {name: [row for row, below in enumerate(names) if name in parents.get(below, ())] for name in names}
    lines = []
    for row, name in enumerate(names):
        line, reached = "", False
        for above in names[:row]:
            goes_on = any(below > row for below in rows_of[above])
            if row in rows_of[above]:
                mark = ("┼" if goes_on else "┴") if reached else ("├" if goes_on else "└")
                reached = True
            else:
                mark = "│" if goes_on else "─" if reached else " "
            line += mark + ("──" if reached else "  ")
        lines.append((f"{line[:-2]}▶ " if reached else line) + name)
    return lines
