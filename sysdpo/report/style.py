"""The style of all figures: colours that colour-blind readers can distinguish, with markers, dashes and hatches."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from sysdpo.base.files import whole
from sysdpo.method.method_words import NULL, OTHER, RANDOM, REFERENCE, RIVAL, SINGLE, SUBJECT, UNTRAINED
from sysdpo.report.descriptions import Shown

matplotlib.use("Agg")

NEAR = 14
"""A label within this many points of its data point needs no leader line."""

INK, SOFT, FAINT = "#1b1f24", "#5b6470", "#d9dde2"

STYLE = Path(__file__).with_name("figures.mplstyle")


@dataclass(frozen=True)
class Look:
    """How a method is drawn in all figures; each of the four alone distinguishes it from the others."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]
    hatch: str


# Okabe and Ito's palette for colour-blind readers, without its yellow, which is too light for lines on white. The looks
# of a kind are used in turn; methods that are compared most have the most distinct ones.
LOOKS: dict[str, tuple[Look, ...]] = {
    REFERENCE: (Look("#6b7280", "o", (0, (4, 2)), ""),),
    UNTRAINED: (Look("#9aa1ab", "*", (0, (1, 1.6)), ".."),),
    RANDOM: (Look("#000000", "x", (0, (1, 2.2)), "xxx"),),
    NULL: (Look("#cc79a7", "P", (0, (5, 1.5, 1, 1.5)), 3 * "\\"), Look("#8f4f74", "X", (0, (5, 2, 2, 2)), "//")),
    SINGLE: (Look("#56b4e9", "v", (0, (6, 2)), "///"), Look("#009e73", "^", (0, (3, 1.2)), "---")),
    RIVAL: (Look("#0072b2", "s", (0, (8, 1.5, 1.5, 1.5)), "||"),),
    SUBJECT: (Look("#d55e00", "D", "-", ""), Look("#8c4a00", "h", (0, (2, 1)), "++")),
    OTHER: (
        Look("#e69f00", "p", (0, (1, 1)), "oo"),
        Look("#4a90c2", "<", (0, (8, 2, 2, 2, 2, 2)), "|/"),
        Look("#b98a5c", "H", (0, (2, 1, 4, 1)), "*"),
    ),
}
_SPARE = (*LOOKS[OTHER], *LOOKS[NULL], *LOOKS[SINGLE], *LOOKS[UNTRAINED])
# Series that are no methods, such as candidate generators, use these in turn.
SERIES = (
    *(LOOKS[RIVAL][0], LOOKS[SUBJECT][0], LOOKS[SINGLE][1], LOOKS[NULL][0], LOOKS[SINGLE][0]),
    *(LOOKS[OTHER][0], LOOKS[SUBJECT][1], LOOKS[UNTRAINED][0]),
)


def look(shown: Shown, name: str) -> Look:
    """The next look of the method's kind, or a spare one after those; a component trained alone has its own."""
    base, plus, _ = name.partition("+")
    method = shown.method(name)
    if plus and base in shown.methods:  # the base's look, with the dashes and hatches of the addition
        beside = [other for other in shown.methods if other.startswith(f"{base}+")]
        added = _look_at(LOOKS[NULL], beside.index(name) if name in beside else 0)
        return replace(look(shown, base), dash=added.dash, hatch=added.hatch)
    if method.component in shown.components:
        return component_look(shown, method.component)
    alike = [other for other in shown.of_kind(method.kind) if "+" not in other]
    index = alike.index(name) if name in alike else zlib.crc32(name.encode())
    return _look_at(LOOKS.get(method.kind, _SPARE), index)


def component_look(shown: Shown, component: str) -> Look:
    """The look of a component, and of the method that trains it alone."""
    return _look_at(LOOKS[SINGLE], shown.order_components([*shown.components, component]).index(component))


def _look_at(looks: Sequence[Look], index: int) -> Look:
    return looks[index] if index < len(looks) else _SPARE[(index - len(looks)) % len(_SPARE)]


def line_style(shown: Shown, method: str, *, size: float = 5.0) -> dict[str, Any]:
    """Keyword arguments for `Axes.plot` and `Axes.errorbar`."""
    return styled_line(look(shown, method), size=size, foremost=method in shown.subjects[:1])


def series_style(index: int, *, size: float = 5.0) -> dict[str, Any]:
    """As `line_style`, for the series with this index among series that are no methods."""
    return styled_line(SERIES[index % len(SERIES)], size=size)


def weight_of(shown: Shown, method: str) -> str:
    """The font weight of a method's name: bold for highlighted methods."""
    return "bold" if method in shown.subjects else "normal"


def styled_line(drawn: Look, *, size: float, foremost: bool = False) -> dict[str, Any]:
    """A look as keyword arguments for `Axes.plot`; the `foremost` line is drawn over the others."""
    return {
        "color": drawn.colour,
        "linestyle": drawn.dash,
        "linewidth": 2.2 if foremost else 1.6,
        "marker": drawn.marker,
        "markersize": size * (1.5 if drawn.marker == "*" else 1.0),
        "markeredgecolor": drawn.colour if drawn.marker == "x" else "white",
        "markeredgewidth": 1.6 if drawn.marker == "x" else 0.6,
        "zorder": 4 if foremost else 3,
    }


def legend_below(figure: Figure, shown: Shown, methods: list[str]) -> None:
    """Add one legend of methods for all panels, below them."""
    legend_of(figure, {shown.method(name).label: line_style(shown, name) for name in methods})


def legend_of(figure: Figure, styles: dict[str, dict[str, Any]]) -> None:
    """Add a legend of labels and styles below all panels, with as many columns as fit."""
    inches = max(2.3, 0.8 + 0.068 * max(map(len, styles)))
    columns = min(len(styles), max(1, int(figure.get_figwidth() / inches)))
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.4, columnspacing=1.8)


Point = tuple[float, float, float, float]
LABEL_OFFSETS = (
    *((9, 5), (9, -12), (-9, 5), (-9, -12), (0, 12), (0, -19), (9, 18), (9, -26), (-9, 18), (-9, -26)),
    *((0, 26), (0, -34), (0, 40), (0, -48), (24, 30), (24, -36), (-24, 30), (-24, -36)),
)
"""Candidate offsets of a label from its data point in points, in order of preference."""


def label_points(figure: Figure, axes: Axes, shown: Shown, points: dict[str, Point]) -> None:
    """Label each method's point `(x, y, low, high)` at the first offset without overlap, or with the least overlap."""
    figure.draw_without_rendering()
    occupied = []
    for x, y, low, high in points.values():
        across, middle = axes.transData.transform((x, y))
        bottom, top = (axes.transData.transform((x, end))[1] for end in (low, high))
        occupied += [Bbox.from_bounds(across - 6, middle - 6, 12, 12)]
        occupied += [Bbox.from_extents(across - 2, bottom, across + 2, top)]
    for method, (at, height, *_) in points.items():
        options: list[tuple[float, Any, Bbox, tuple[int, int]]] = []
        words: dict[str, Any] = {"fontsize": 9, "fontweight": weight_of(shown, method), "zorder": 5}
        for x, y in LABEL_OFFSETS:
            side = "center" if x == 0 else "left" if x > 0 else "right"
            label = axes.annotate(
                shown.method(method).label, (at, height), xytext=(x, y), textcoords="offset points", ha=side, **words
            )
            box = label.get_window_extent()
            outside = max(axes.bbox.x0 - box.x0, 0) + max(box.x1 - axes.bbox.x1, 0)
            options.append((outside * box.height + sum(_overlap(box, other) for other in occupied), label, box, (x, y)))
            if options[-1][0] == 0:
                break
        _, best, box, offset = min(options, key=lambda option: option[0])
        occupied.append(box)
        for _, label, *_ in options:
            if label is not best:
                label.remove()
        if max(map(abs, offset)) > NEAR:
            lead = {"arrowstyle": "-", "color": look(shown, method).colour, "lw": 0.8, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", (at, height), xytext=offset, textcoords="offset points", arrowprops=lead)


def _overlap(box: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(box, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


styled = partial(matplotlib.rc_context, fname=STYLE)
"""A context in which figures have the project's style."""


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `{name}.png` and `{name}.svg` atomically; equal figures give equal bytes."""
    # The files are committed and compared, so they contain neither date nor library version.
    metadata: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    with styled():
        for kind, entries in metadata.items():
            with whole(folder / f"{name}.{kind}") as partial:
                figure.savefig(partial, format=kind, dpi=170, metadata=entries)


def panels(
    count: int, width: float, height: float, *, across: int = 2, more: float = 0.0, **shared: Any
) -> tuple[Figure, list[Axes], Any]:
    """A figure of `count` panels of this size in inches, at most `across` in a row; `more`: extra height below them.

    Returns the figure, its panels, and those of its last row, for the labels of the horizontal axis. Empty panels are
    hidden.
    """
    across = min(across, count)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down + more), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, **shared)
    for axes in list(grid.flat)[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat)[:count], grid[-1]
