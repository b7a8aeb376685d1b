"""One look for every figure: colours that colour-blind readers tell apart, doubled by markers, dashes and
hatches.
"""

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
"""A name within so many points of what it names needs no line that leads to it."""

INK, SOFT, FAINT = "#1b1f24", "#5b6470", "#d9dde2"

STYLE = Path(__file__).with_name("figures.mplstyle")


@dataclass(frozen=True)
class Look:
    """How one method is drawn, everywhere. Any one of the four is enough to tell it from the others."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]
    hatch: str


# Okabe and Ito's palette for colour-blind readers, its yellow left out: too light for lines on white. Each kind of
# method has its own in turn; what is compared most has those that are told apart best.
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
# What is no method, such as a generator of candidates, takes these in turn.
SERIES = (
    *(LOOKS[RIVAL][0], LOOKS[SUBJECT][0], LOOKS[SINGLE][1], LOOKS[NULL][0], LOOKS[SINGLE][0]),
    *(LOOKS[OTHER][0], LOOKS[SUBJECT][1], LOOKS[UNTRAINED][0]),
)


def look(shown: Shown, name: str) -> Look:
    """The next look of the method's kind, or a spare one where those are used up; of a component alone, its own."""
    base, plus, _ = name.partition("+")
    method = shown.method(name)
    if plus and base in shown.methods:  # the base's own, with the dashes and hatches of what is added
        beside = [other for other in shown.methods if other.startswith(f"{base}+")]
        added = _taken(LOOKS[NULL], beside.index(name) if name in beside else 0)
        return replace(look(shown, base), dash=added.dash, hatch=added.hatch)
    if method.component in shown.components:
        return component_look(shown, method.component)
    alike = [other for other in shown.of_kind(method.kind) if "+" not in other]
    place = alike.index(name) if name in alike else zlib.crc32(name.encode())
    return _taken(LOOKS.get(method.kind, _SPARE), place)


def component_look(shown: Shown, component: str) -> Look:
    """The look of what is trained alone, or belongs to it alone."""
    return _taken(LOOKS[SINGLE], shown.order_components([*shown.components, component]).index(component))


def _taken(looks: Sequence[Look], place: int) -> Look:
    return looks[place] if place < len(looks) else _SPARE[(place - len(looks)) % len(_SPARE)]


def line_style(shown: Shown, method: str, *, size: float = 5.0) -> dict[str, Any]:
    """Keyword arguments for `Axes.plot` and `Axes.errorbar`."""
    return styled_line(look(shown, method), size=size, foremost=method in shown.subjects[:1])


def series_style(place: int, *, size: float = 5.0) -> dict[str, Any]:
    """As `line_style`, for the series at this place among others that are no methods."""
    return styled_line(SERIES[place % len(SERIES)], size=size)


def weight_of(shown: Shown, method: str) -> str:
    """The weight of a method's name: those that are set off are bold."""
    return "bold" if method in shown.subjects else "normal"


def styled_line(drawn: Look, *, size: float, foremost: bool = False) -> dict[str, Any]:
    """A look as keyword arguments for `Axes.plot`; the `foremost` line lies on the others."""
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
    """One legend of methods for all panels, under them."""
    legend_of(figure, {shown.method(name).label: line_style(shown, name) for name in methods})


def legend_of(figure: Figure, styles: dict[str, dict[str, Any]]) -> None:
    """A legend of labels and their styles below all panels, as many columns as the figure is wide enough for."""
    inches = max(2.3, 0.8 + 0.068 * max(map(len, styles)))
    columns = min(len(styles), max(1, int(figure.get_figwidth() / inches)))
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.4, columnspacing=1.8)


Point = tuple[float, float, float, float]
PLACES = (
    *((9, 5), (9, -12), (-9, 5), (-9, -12), (0, 12), (0, -19), (9, 18), (9, -26), (-9, 18), (-9, -26)),
    *((0, 26), (0, -34), (0, 40), (0, -48), (24, 30), (24, -36), (-24, 30), (-24, -36)),
)
"""Where a name may stand, in points from what it names, the first choice first."""


def label_points(figure: Figure, axes: Axes, shown: Shown, points: dict[str, Point]) -> None:
    """Names each method's point `(x, y, low, high)` at the first place that hides nothing, or where it hides least."""
    figure.draw_without_rendering()
    taken = []
    for x, y, low, high in points.values():
        across, middle = axes.transData.transform((x, y))
        bottom, top = (axes.transData.transform((x, end))[1] for end in (low, high))
        taken += [Bbox.from_bounds(across - 6, middle - 6, 12, 12)]
        taken += [Bbox.from_extents(across - 2, bottom, across + 2, top)]
    for method, (at, height, *_) in points.items():
        tried: list[tuple[float, Any, Bbox, tuple[int, int]]] = []
        words: dict[str, Any] = {"fontsize": 9, "fontweight": weight_of(shown, method), "zorder": 5}
        for x, y in PLACES:
            side = "center" if x == 0 else "left" if x > 0 else "right"
            label = axes.annotate(
                shown.method(method).label, (at, height), xytext=(x, y), textcoords="offset points", ha=side, **words
            )
            box = label.get_window_extent()
            outside = max(axes.bbox.x0 - box.x0, 0) + max(box.x1 - axes.bbox.x1, 0)
            tried.append((outside * box.height + sum(_overlap(box, other) for other in taken), label, box, (x, y)))
            if tried[-1][0] == 0:
                break
        _, best, box, beside = min(tried, key=lambda each: each[0])
        taken.append(box)
        for _, label, *_ in tried:
            if label is not best:
                label.remove()
        if max(map(abs, beside)) > NEAR:
            lead = {"arrowstyle": "-", "color": look(shown, method).colour, "lw": 0.8, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", (at, height), xytext=beside, textcoords="offset points", arrowprops=lead)


def _overlap(box: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(box, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


styled = partial(matplotlib.rc_context, fname=STYLE)
"""A context: figures made inside have the project's look."""


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes `{name}.png` and `{name}.svg`, each whole or not at all; same figure, same bytes."""
    # Neither the date nor the drawing library's version belongs in a file that is compared and committed.
    metadata: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    with styled():
        for kind, entries in metadata.items():
            with whole(folder / f"{name}.{kind}") as partial:
                figure.savefig(partial, format=kind, dpi=170, metadata=entries)


def panels(
    count: int, width: float, height: float, *, across: int = 2, more: float = 0.0, **shared: Any
) -> tuple[Figure, list[Axes], Any]:
    """A figure of `count` panels, at most so many in a row, of that size in inches; `more`: for what lies below them.

    Returns the figure, its panels, and those of its last row, which name the horizontal axis. Empty places are hidden.
    """
    across = min(across, count)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down + more), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, **shared)
    for axes in list(grid.flat)[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat)[:count], grid[-1]
