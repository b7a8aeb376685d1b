"""One look for every figure: colours that colour-blind readers tell apart, doubled by markers, dashes and
hatches.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from sysdpo.report.files import write_whole
from sysdpo.report.views import SUBJECTS, method_view

matplotlib.use("Agg")

NEAR = 14
"""A name within so many points of what it names needs no line that leads to it."""

INK, SOFT, FAINT = "#1b1f24", "#5b6470", "#d9dde2"

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#8b939c",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 9,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e9ecef",
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "sysdpo",
}


@dataclass(frozen=True)
class Look:
    """How one method is drawn, everywhere. Any one of the four is enough to tell it from the others."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]
    hatch: str


# Okabe and Ito's palette for colour-blind readers, its yellow left out: too light for lines on white.
LOOKS: dict[str, Look] = {
    "before": Look("#6b7280", "o", (0, (4, 2)), ""),
    "best_of_n": Look("#9aa1ab", "*", (0, (1, 1.6)), ".."),
    "shuffled": Look("#000000", "x", (0, (1, 2.2)), "xxx"),
    "likelihood": Look("#cc79a7", "P", (0, (5, 1.5, 1, 1.5)), "\\\\\\"),
    "likelihood_hidden": Look("#8f4f74", "X", (0, (5, 2, 2, 2)), "//"),
    "only_writer": Look("#56b4e9", "v", (0, (6, 2)), "///"),
    "only_painter": Look("#009e73", "^", (0, (3, 1.2)), "---"),
    "separate": Look("#0072b2", "s", (0, (8, 1.5, 1.5, 1.5)), "||"),
    "direct": Look("#d55e00", "D", "-", ""),
    "sampling": Look("#8c4a00", "h", (0, (2, 1)), "++"),
    "single_sample": Look("#e69f00", "p", (0, (1, 1)), "oo"),
    "separate_longer": Look("#4a90c2", "<", (0, (8, 2, 2, 2, 2, 2)), "|/"),
    "sampling_scored": Look("#b98a5c", "H", (0, (2, 1, 4, 1)), "*"),
}
# Two systems' counterparts look alike.
_KIN = {
    **dict.fromkeys(("only_first", "only_drafter"), "only_writer"),
    **dict.fromkeys(("only_second", "only_refiner"), "only_painter"),
}
_SPARE = [name for name in LOOKS if name not in ("before", "direct", "separate", "shuffled")]


def look(method: str) -> Look:
    """The look of a method; one that is not listed always gets the same of the spare ones."""
    base, plus, added = method.partition("+")
    if plus:  # the base's own, with the dashes and hatches of what is added
        return replace(look(base), dash=look(added).dash, hatch=look(added).hatch)
    name = _KIN.get(method, method)
    return LOOKS[name] if name in LOOKS else LOOKS[_SPARE[zlib.crc32(name.encode()) % len(_SPARE)]]


_SERIES = ("separate", "direct", "only_painter", "likelihood", "only_writer", "single_sample", "sampling", "best_of_n")
# What is no method, such as a generator of candidates, takes these in turn.
SERIES = [LOOKS[name] for name in _SERIES]


def line_style(method: str, *, size: float = 5.0) -> dict[str, Any]:
    """Keyword arguments for `Axes.plot` and `Axes.errorbar`."""
    return styled_line(look(method), size=size, foremost=method == "direct")


def series_style(place: int, *, size: float = 5.0) -> dict[str, Any]:
    """As `line_style`, for the series at this place among others that are no methods."""
    return styled_line(SERIES[place % len(SERIES)], size=size)


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


def legend_below(figure: Figure, methods: list[str]) -> None:
    """One legend of methods for all panels, under them."""
    legend_of(figure, {method_view(name).label: line_style(name) for name in methods})


def legend_of(figure: Figure, styles: dict[str, dict[str, Any]]) -> None:
    """A legend of labels and their styles below all panels, as many columns as the figure is wide enough for."""
    inches = max(2.3, 0.8 + 0.068 * max(map(len, styles)))
    columns = min(len(styles), max(1, int(figure.get_figwidth() / inches)))
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.4, columnspacing=1.8)


def label_points(figure: Figure, axes: Axes, points: dict[str, tuple[float, float, float, float]]) -> None:
    """Names each method's point `(x, y, low, high)` beside it, at the first place that hides no bar and no
    other name, or else where it hides least.
    """
    figure.draw_without_rendering()
    taken = []
    for x, y, low, high in points.values():
        across, middle = axes.transData.transform((x, y))
        bottom, top = (axes.transData.transform((x, end))[1] for end in (low, high))
        taken += [
            Bbox.from_bounds(across - 6, middle - 6, 12, 12),
            Bbox.from_extents(across - 2, bottom, across + 2, top),
        ]
    places = [(9, 5), (9, -12), (-9, 5), (-9, -12), (0, 12), (0, -19), (9, 18), (9, -26), (-9, 18), (-9, -26)]
    places += [(0, 26), (0, -34), (0, 40), (0, -48), (24, 30), (24, -36), (-24, 30), (-24, -36)]
    for method, (at, height, *_) in points.items():
        tried = []
        for x, y in places:
            label = axes.annotate(
                method_view(method).label,
                (at, height),
                xytext=(x, y),
                textcoords="offset points",
                fontsize=9,
                ha="center" if x == 0 else "left" if x > 0 else "right",
                fontweight="bold" if method in SUBJECTS else "normal",
                zorder=5,
            )
            box = label.get_window_extent()
            outside = max(axes.bbox.x0 - box.x0, 0) + max(box.x1 - axes.bbox.x1, 0)
            hidden = outside * box.height + sum(_overlap(box, other) for other in taken)
            tried.append((hidden, label, box, (x, y)))
            if hidden == 0:
                break
        _, best, box, beside = min(tried, key=lambda each: each[0])
        taken.append(box)
        for _, label, *_ in tried:
            if label is not best:
                label.remove()
        if max(map(abs, beside)) > NEAR:
            lead = {"arrowstyle": "-", "color": look(method).colour, "lw": 0.8, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", (at, height), xytext=beside, textcoords="offset points", arrowprops=lead)


def _overlap(box: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(box, other)
    return 0.0 if shared is None else float(shared.width * shared.height)


@contextmanager
def styled() -> Iterator[None]:
    """Figures made inside have the project's look."""
    with matplotlib.rc_context(RC):
        yield


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes `{name}.png` and `{name}.svg`, each whole or not at all; same figure, same bytes."""
    # Neither the date nor the drawing library's version belongs in a file that is compared and committed.
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    with styled():
        for kind, entries in metadata.items():
            write_whole(
                folder / f"{name}.{kind}",
                lambda partial, kind=kind, entries=entries: figure.savefig(  # type: ignore[misc]
                    partial, format=kind, dpi=170, metadata=entries
                ),
            )
