"""A system's graph: which variables are generated, by what and from what, as data and as a drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

STEP, ROW, HEIGHT, LETTER = 26, 50, 34, 9.2  # pixels: between columns, between rows, of a box, of a letter


@dataclass(frozen=True)
class Variable:
    """A generated variable. component: what generates it, by name. trained: whether that learns."""

    name: str
    component: str
    parents: Sequence[str]
    trained: bool = False
    output: bool = False


@dataclass(frozen=True)
class Graph:
    """inputs: names of the given variables. variables: the generated ones, in the order in which they come about."""

    inputs: Sequence[str]
    variables: Sequence[Variable]

    @property
    def names(self) -> list[str]:
        """The generated variables' names."""
        return [variable.name for variable in self.variables]


def ordered(variables: Iterable[Variable], inputs: Sequence[str]) -> list[Variable]:
    """The variables in an order in which each comes after its parents, else in the given one."""
    rest, known, found = list(variables), set(inputs), list[Variable]()
    while rest:
        # In a cycle nothing is next; a system refuses one, so that any order will do here.
        ready = next((one for one in rest if set(one.parents) <= known), rest[0])
        rest.remove(ready)
        known.add(ready.name)
        found.append(ready)
    return found


def draw_graph(graph: Graph, words: dict[str, str]) -> Markup:
    """An SVG with a row for each variable, one step to the right of the one above, and lines down to it from those
    that it is generated from: no line passes through a box.

    words: what is said of a variable behind its name.
    """
    parents = dict.fromkeys(graph.inputs, ()) | {one.name: tuple(one.parents) for one in graph.variables}
    rows = {name: number for number, name in enumerate(parents)}
    outputs = {one.name for one in graph.variables if one.output}
    lines, boxes, widest = list[str](), list[str](), 0.0
    for name, row in rows.items():
        x, top = row * STEP + 1, row * ROW + 1
        known = [rows[parent] for parent in parents[name] if parent in rows]
        if known:
            middle = top + HEIGHT / 2
            lines.append(f"<path d='M{min(known) * STEP + 13} {middle}H{x - 4}'/>")
            lines.append(f"<path class='arrow' d='M{x - 1} {middle}l-8 -4v8z'/>")
        for parent in known:
            below = parent * STEP + 13
            lines.append(f"<path d='M{below} {parent * ROW + HEIGHT + 1}V{top + HEIGHT / 2}'/>")
            lines.append(f"<circle cx='{below}' cy='{top + HEIGHT / 2}' r='2.6'/>")
        width = max(44, len(name) * LETTER + 22)
        kind = "given" if name in graph.inputs else "made out" if name in outputs else "made"
        boxes.append(
            f"<rect class='{kind}' x='{x}' y='{top}' width='{width:.0f}' height='{HEIGHT}' rx='7'/>"
            f"<text class='name' x='{x + 11}' y='{top + 22}'>{escape(name)}</text>"
            f"<text class='by' x='{x + width + 10:.0f}' y='{top + 22}'>{escape(words[name])}</text>"
        )
        widest = max(widest, x + width + 14 + len(words[name]) * LETTER * 0.86)
    said = "; ".join(f"{name}: {words[name]}" for name in rows)
    return Markup(
        f"<svg class='graph' role='img' aria-label='{escape(said)}' width='{widest:.0f}' height='{len(rows) * ROW}' "
        f"viewBox='0 0 {widest:.0f} {len(rows) * ROW}'><g class='lines'>{''.join(lines)}</g>{''.join(boxes)}</svg>"
    )
