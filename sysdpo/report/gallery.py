"""Pictures and captions themselves: the same prompt and seed under every method."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, UnidentifiedImageError

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.style import FAINT, INK, look, styled
from sysdpo.report.views import SUBJECTS, method_view, order_methods

IMAGES = 3
SIDE = 256  # pixels; larger images are shrunk to it
CAPTION_WIDTH, CAPTION_LINES, SHORT = 18, 9, 3  # letters, lines at most, lines that a row has room for anyhow
NAME_WIDTH = 18  # letters of a method's name in a line
LINE = 0.12  # inches


@dataclass(frozen=True)
class Series:
    """What one method made of one prompt: captions, PNG bytes of images of at most `SIDE` pixels a side, and the asked
    attribute of each image in [0, 1].
    """

    captions: Sequence[str]
    images: Sequence[bytes]
    attribute: Sequence[float]

    @property
    def in_order(self) -> bool:
        """Whether the asked attribute strictly rises."""
        return all(a < b for a, b in zip(self.attribute, self.attribute[1:], strict=False))

    @property
    def coarse(self) -> bool:
        """Whether the images have so few pixels that they should be shown as they are."""
        return any(max(Image.open(io.BytesIO(image)).size) <= SIDE // 4 for image in self.images)


@dataclass(frozen=True)
class Exhibit:
    """One prompt and what every method made of it, methods in display order."""

    prompt: str
    series: dict[str, Series]


def pick(runs: Path, methods: Sequence[str], *, limit: int = 3) -> list[Exhibit]:
    """Of each attribute, the first `limit` by name, the prompt on which `direct`, or without it the last method, scores
    its median, at the first seed and first sample: a rule for what is typical, so nothing is hand-picked.

    `runs` is `results/runs/{system}`. Only prompts that every method was evaluated on are shown.
    """
    prompts = files.read_prompts(runs, ("prompt_id", "split", "text", "attribute"))
    columns = [
        "prompt_id",
        "sample",
        "score",
        *(f"{name}_{k}" for name in ("caption", "image", "attribute") for k in (1, 2, 3)),
    ]
    seed = files.seeds_of(runs)[0]
    samples = files.read_samples(runs, methods, columns, seeds=[seed])
    first = samples.sort_values("sample").drop_duplicates(["method", "prompt_id"])
    tables = {str(name): part.set_index("prompt_id") for name, part in first.groupby("method")}
    shared = set.intersection(*(set(table.index) for table in tables.values()))
    shown = prompts[prompts["prompt_id"].isin(shared)].sort_values("prompt_id")
    if shown.empty:
        raise UserError(f"No prompt of {runs / 'prompts.parquet'} was evaluated for every method at seed {seed}.")
    typical = "direct" if "direct" in tables else order_methods(tables)[-1]
    ranked = shown.assign(score=tables[typical].loc[shown["prompt_id"], "score"].to_numpy())
    ranked = ranked.sort_values(["score", "prompt_id"])
    groups = [group.iloc[len(group) // 2] for _, group in ranked.groupby("attribute", sort=True)]
    chosen = pd.DataFrame(groups).head(limit)
    return [
        Exhibit(str(text), {name: _series(tables[name].loc[prompt]) for name in order_methods(tables)})
        for prompt, text in zip(chosen["prompt_id"], chosen["text"], strict=True)
    ]


def _series(row: pd.Series) -> Series:
    places = range(1, IMAGES + 1)
    return Series(
        [str(row[f"caption_{place}"]) for place in places],
        [_shrunk(bytes(row[f"image_{place}"])) for place in places],
        [float(row[f"attribute_{place}"]) for place in places],
    )


def gallery(exhibits: Sequence[Exhibit]) -> Figure:
    """Rows: methods. Columns: the three images of each prompt with their captions, and whether they are in
    order.
    """
    methods = list(exhibits[0].series)
    # Widths in units of one image: a gap before every prompt but the first.
    gap = 0.35
    widths = [width for place in range(len(exhibits)) for width in ([gap] if place else []) + [1.0] * IMAGES]
    captions = [text for exhibit in exhibits for series in exhibit.series.values() for text in series.captions]
    longer = LINE * max(0, max(len(_lines(caption)) for caption in captions) - SHORT)
    with styled():
        height = (1.58 + longer) * len(methods) + 0.55
        figure = Figure(figsize=(1.12 * sum(widths) + 1.5, height))
        left, top, bottom = 1.45 / figure.get_figwidth(), 1 - 0.62 / height, (longer + max(0.5, 0.04 * height)) / height
        grid = figure.add_gridspec(
            len(methods), len(widths), width_ratios=widths, left=left, right=0.995, top=top, bottom=bottom,
            wspace=0.06, hspace=0.42 + longer / 1.12,
        )  # fmt: skip
        for place, exhibit in enumerate(exhibits):
            start = place * (IMAGES + 1)
            for row, method in enumerate(methods):
                cells = [figure.add_subplot(grid[row, start + image]) for image in range(IMAGES)]
                _draw(cells, exhibit.series[method])
                if place == 0:
                    _name(cells[0], method)
                if row == 0:
                    title = textwrap.fill(f"“{exhibit.prompt}”", 48)
                    cells[0].set_title(title, fontsize=9.5, fontstyle="italic", fontweight="normal", pad=8)
    return figure


def _draw(cells: list[Axes], series: Series) -> None:
    sign, colour = ("✓", "#00704f") if series.in_order else ("✗", "#a33f00")
    for place, (axes, caption, image) in enumerate(zip(cells, series.captions, series.images, strict=True)):
        axes.imshow(_pixels(image), interpolation="none", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        label: dict[str, Any] = {"fontsize": 7, "color": INK, "labelpad": 6, "linespacing": 1.05, "parse_math": False}
        axes.set_xlabel("\n".join(_lines(caption)), **label)
        level = series.attribute[place]
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
    # A model may write anything, and a control character makes an SVG unreadable.
    printable = "".join(letter if letter.isprintable() else " " for letter in caption)
    return textwrap.wrap(printable, CAPTION_WIDTH, max_lines=CAPTION_LINES, placeholder=" …")


def _name(axes: Axes, method: str) -> None:
    name, weight = textwrap.fill(method_view(method).label, NAME_WIDTH), "bold" if method in SUBJECTS else "normal"
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "center"}
    axes.text(-0.16, 0.5, name, fontsize=9, fontweight=weight, color=INK, **place)
    axes.add_patch(
        Rectangle(
            (-0.1, 0),
            0.035,
            1,
            transform=axes.transAxes,
            clip_on=False,
            facecolor=look(method).colour,
            linewidth=0,
        )
    )


def _shrunk(image: bytes) -> bytes:
    """The PNG with its longer side at most `SIDE`: a report full of large pictures opens in no browser."""
    opened = _opened(image)
    if max(opened.size) <= SIDE:
        return image
    opened.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    opened.save(written, "PNG", optimize=True)
    return written.getvalue()


def _pixels(image: bytes) -> np.ndarray:
    return np.asarray(_opened(image))


def _opened(image: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(image)).convert("RGB")
    except UnidentifiedImageError as problem:
        raise UserError("A column image_1, image_2 or image_3 holds bytes that are no PNG.") from problem
