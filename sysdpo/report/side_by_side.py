"""What several systems make of one prompt, side by side: in the terminal, as files, on a page."""

import io
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from PIL.Image import Image

from sysdpo.base.errors import printable
from sysdpo.base.files import whole
from sysdpo.report.embedding import data_uri
from sysdpo.report.files import write_text

NARROWEST, GAP = 16, 3  # characters of a column, and between two


class Cell(NamedTuple):
    """A system's value: its text, or its picture's data URI."""

    label: str
    text: str = ""
    source: str = ""


class Row(NamedTuple):
    """A variable's values; `sample` is None where there is one alone."""

    variable: str
    sample: int | None
    cells: list[Cell]


def as_text(table: pd.DataFrame, width: int | None = None) -> str:
    """The table of `sysdpo.compare` for the terminal, a column a system. width: of the whole, in characters."""
    width = width or shutil.get_terminal_size().columns
    column = max(NARROWEST, (width - GAP * (len(table.columns) - 1)) // max(1, len(table.columns)))
    blocks = [_line([str(label) for label in table.columns], column, "=")]
    for row in _rows(table):
        heading = row.variable + ("" if row.sample is None else f", sample {row.sample + 1}")
        blocks.append(f"{printable(heading)}\n{_line([cell.text for cell in row.cells], column)}")
    return "\n\n".join(blocks)


def write_pictures(table: pd.DataFrame, folder: Path) -> None:
    """Each picture as `VARIABLE-SAMPLE-SYSTEM.png`; a folder is replaced only if it has no other files."""
    with whole(folder) as path:
        path.mkdir()
        for variable, sample, values in _values(table):
            for label, value in values.items():
                if isinstance(value, Image):
                    value.save(path / f"{variable}-{sample + 1}-{_as_name(label)}.png")


def write_page(table: pd.DataFrame, title: str, inputs: Mapping[str, Any], output: Path) -> None:
    """One page with all texts and pictures, which needs no other file."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("side_by_side.html.j2").render(
        title=title, inputs=dict(inputs), labels=[str(label) for label in table.columns], rows=list(_rows(table))
    )
    write_text(output, page)


def _rows(table: pd.DataFrame) -> Iterator[Row]:
    several = table.index.get_level_values("sample").nunique() > 1
    for variable, sample, values in _values(table):
        yield Row(variable, sample if several else None, [_cell(label, value) for label, value in values.items()])


def _values(table: pd.DataFrame) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Variable, sample, and by the systems' labels their values."""
    index: Any = table.index
    for (variable, sample), row in zip(index, table.to_numpy(dtype=object), strict=True):
        yield str(variable), int(sample), dict(zip(map(str, table.columns), row, strict=True))


def _cell(label: str, value: Any) -> Cell:
    if not isinstance(value, Image):
        return Cell(label, str(value))
    content = io.BytesIO()
    value.save(content, "PNG")
    size = " x ".join(map(str, value.size))
    return Cell(label, f"(picture, {size} pixels)", data_uri(content.getvalue(), "image/png"))


def _line(texts: list[str], column: int, underline: str = "") -> str:
    """Texts beside each other; control characters in what a model wrote are escaped."""
    cells = [
        [piece for line in text.splitlines() or [""] for piece in textwrap.wrap(printable(line), column) or [""]]
        for text in texts
    ]
    if underline:
        cells = [[*pieces, underline * max(map(len, pieces))] for pieces in cells]
    gap = " " * GAP
    return "\n".join(
        gap.join(piece.ljust(column) for piece in row).rstrip() for row in zip_longest(*cells, fillvalue="")
    )


def _as_name(label: str) -> str:
    return "_".join("".join(letter if letter.isalnum() else " " for letter in label.lower()).split())
