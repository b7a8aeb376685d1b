"""Figure: pictures and captions of every method for the same prompts and seed."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from sysdpo.base.errors import UserError
from sysdpo.report.figure import figure
from sysdpo.report.run import Run
from sysdpo.report.samples import BY_MEDIAN, LOOKS_LIKE, Series, pick_pictures
from sysdpo.report.style import FAINT, INK, look, styled, weight_of

CAPTION_WIDTH, CAPTION_LINES, SHORT = 18, 9, 3  # letters, most lines, lines that fit without more space
NAME_WIDTH = 18  # letters per line of a method's name
TITLE_WIDTH = 16  # letters an image
LINE, TITLE_LINE = 0.12, 0.16  # inches
GAP = 0.35  # before every prompt but the first, in image widths


@figure(heading=LOOKS_LIKE, caption=BY_MEDIAN)
def gallery(run: Run) -> Figure:
    """Rows: methods. Columns: each prompt's images with their captions, and whether they are in order."""
    if run.shown.pictures is None:
        raise UserError("figures: 'gallery' should stand only at a system whose description has pictures")
    exhibits = pick_pictures(run.shown, run.shown.pictures, run.folder, run.methods)
    methods, images = list(exhibits[0].series), len(run.shown.pictures.images)
    widths = [width for column in range(len(exhibits)) for width in ([GAP] if column else []) + [1.0] * images]
    captions = [text for exhibit in exhibits for series in exhibit.series.values() for text in series.captions]
    longer = LINE * max(0, max(len(_lines(caption)) for caption in captions) - SHORT)
    titles = [textwrap.fill(f"“{exhibit.prompt}”", TITLE_WIDTH * images) for exhibit in exhibits]
    more = TITLE_LINE * max(0, max(title.count("\n") for title in titles) - 1)
    with styled():
        height = (1.58 + longer) * len(methods) + 0.55 + more
        drawn = Figure(figsize=(1.12 * sum(widths) + 1.5, height))
        left, top, bottom = (
            1.45 / drawn.get_figwidth(),
            1 - (0.62 + more) / height,
            (longer + max(0.5, 0.04 * height)) / height,
        )
        grid = drawn.add_gridspec(
            len(methods), len(widths), width_ratios=widths, left=left, right=0.995, top=top, bottom=bottom,
            wspace=0.06, hspace=0.42 + longer / 1.12,
        )  # fmt: skip
        for column, exhibit in enumerate(exhibits):
            start = column * (images + 1)
            for row, method in enumerate(methods):
                cells = [drawn.add_subplot(grid[row, start + image]) for image in range(images)]
                _draw(cells, exhibit.series[method])
                if column == 0:
                    _name(cells[0], run, method)
                if row == 0:
                    cells[0].set_title(titles[column], fontsize=9.5, fontstyle="italic", fontweight="normal", pad=8)
    return drawn


def _draw(cells: list[Axes], series: Series) -> None:
    sign, colour = ("✓", "#00704f") if series.right else ("✗", "#a33f00")
    for axes, caption, image, level in zip(cells, series.captions, series.images, series.levels, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
        axes.imshow(pixels, interpolation="none", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        label: dict[str, Any] = {"fontsize": 7, "color": INK, "labelpad": 6, "linespacing": 1.05, "parse_math": False}
        axes.set_xlabel("\n".join(_lines(caption)), **label)
        bar: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "linewidth": 0}
        axes.add_patch(Rectangle((0, -0.055), 1, 0.035, facecolor=FAINT, **bar))
        axes.add_patch(Rectangle((0, -0.055), min(max(level, 0), 1), 0.035, facecolor=colour, **bar))
        for spine in axes.spines.values():
            spine.set_visible(False)
    cells[-1].text(
        0.9, 0.9, sign, transform=cells[-1].transAxes, fontsize=9, color="white", va="center", ha="center",
        fontweight="bold",
        bbox={"boxstyle": "circle,pad=0.18", "facecolor": colour, "linewidth": 0},
    )  # fmt: skip


def _lines(caption: str) -> list[str]:
    # A model's text may contain control characters, which make an SVG unreadable.
    printable = "".join(letter if letter.isprintable() else " " for letter in caption)
    return textwrap.wrap(printable, CAPTION_WIDTH, max_lines=CAPTION_LINES, placeholder=" …")


def _name(axes: Axes, run: Run, method: str) -> None:
    name = textwrap.fill(run.shown.method(method).label, NAME_WIDTH)
    anchor: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "center"}
    axes.text(-0.16, 0.5, name, fontsize=9, fontweight=weight_of(run.shown, method), color=INK, **anchor)
    beside: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "linewidth": 0}
    axes.add_patch(Rectangle((-0.1, 0), 0.035, 1, facecolor=look(run.shown, method).colour, **beside))
