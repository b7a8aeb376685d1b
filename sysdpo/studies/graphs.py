"""Small drawings of the enumerable systems' graphs."""

from __future__ import annotations

from typing import NamedTuple

from matplotlib.axes import Axes

from sysdpo.report.style import INK, SOFT

TIED, EDGE = "#dfe9f3", "#8b939c"


class Graph(NamedTuple):
    """A system's graph: title, positions of variables, edges, and the nodes (`tied`) that may share a component."""

    title: str
    remark: str
    positions: dict[str, tuple[float, float]]
    edges: tuple[str, ...]
    tied: tuple[str, ...]


_CAN, _CANNOT = "can form the optimum", "cannot form the optimum"
_FROM_Y = {"x": (0.1, 0.5), "y": (0.5, 0.5)}
_FAN_IN = (
    {"x": (0.1, 0.5), "y₁": (0.5, 0.85), "y₂": (0.5, 0.15), "z": (0.9, 0.5)},
    ("x y₁", "x y₂", "y₁ z", "y₂ z"),
    ("y₁", "y₂"),
)
_FAN_OUT = _FROM_Y | {"z₁": (0.9, 0.85), "z₂": (0.9, 0.15)}
_DIAMOND = {"x": (0.04, 0.5), "a": (0.34, 0.5), "b": (0.65, 0.85), "c": (0.65, 0.15), "z": (0.95, 0.5)}
GRAPHS: dict[str, Graph] = {
    "chain": Graph("Chain", _CAN, _FROM_Y | {"z": (0.9, 0.5)}, ("x y", "y z"), ("y", "z")),
    "fan_out": Graph("Fan-out", _CAN, _FAN_OUT, ("x y", "y z₁", "y z₂"), ("z₁", "z₂")),
    "fan_in": Graph("Fan-in", _CAN, *_FAN_IN),
    "diamond": Graph("Diamond", _CAN, _DIAMOND, ("x a", "a b", "a c", "b z", "c z"), ("b", "c")),
    "entangled": Graph("Entangled fan-in", _CANNOT, *_FAN_IN),
}


def graph_title(system: str) -> str:
    """A system's name as shown."""
    return GRAPHS[system].title if system in GRAPHS else system.replace("_", " ").capitalize()


def draw_graph(axes: Axes, system: str) -> None:
    """Draw the system's name and, if it is known, its graph, in axes of their own."""
    axes.set_axis_off()
    axes.set_xlim(-0.08, 1.08)
    axes.set_ylim(-0.2, 1.2)
    if system not in GRAPHS:
        axes.set_title(graph_title(system))
        return
    title, remark, positions, edges, tied = GRAPHS[system]
    axes.set_title(title, pad=16)
    axes.text(0, 1.03, remark, transform=axes.transAxes, fontsize=8.5, color=SOFT, va="bottom")
    arrow = {"arrowstyle": "-|>,head_width=0.18,head_length=0.32", "color": SOFT, "lw": 0.9, "shrinkA": 7, "shrinkB": 7}
    for edge in edges:
        tail, head = edge.split()
        axes.annotate("", positions[head], positions[tail], arrowprops=arrow)
    for name, (x, y) in positions.items():
        face = TIED if name in tied else "white"
        shape = "s" if name == "x" else "o"
        axes.plot(x, y, shape, markersize=15, markerfacecolor=face, markeredgecolor=EDGE, markeredgewidth=0.9)
        axes.text(x, y - 0.01, name, ha="center", va="center_baseline", fontsize=9, color=INK)
