"""The figures of a system by name: files of `sysdpo.report.figures`, or any importable function.

No library is imported here, so that a workflow can check the names before its first job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sysdpo.base.functions import LIBRARY, load_function, module_file
from sysdpo.base.registry import Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Draw = Callable[[Any], Figure]
    """Draws a figure from the `Run` of a system."""

PACKAGE = "sysdpo.report.figures"
FIGURES: Registry[Drawing] = Registry("figure", PACKAGE)
"""Figures by name."""


@dataclass(frozen=True)
class Drawing:
    """A figure: its heading and caption in the report, and the function that draws it from a run.

    Heading and caption may contain `{subject}`, `{rival}` and `{hidden}`: the names of the first highlighted method, of
    its main baseline, and of the method that sums over hidden intermediates.
    """

    heading: str
    caption: str
    draw: Draw


def figure(*, heading: str, caption: str) -> Callable[[Draw], Draw]:
    """A decorator that registers a function of a `Run` as a figure, under the function's name.

    heading, caption: of the figure in the report; see `Drawing`.

    Raises `UserError` if another figure has the name.
    """

    def put(draw: Draw) -> Draw:
        FIGURES.register(draw.__name__)(Drawing(heading, caption, draw))
        return draw

    return put


def figure_name(reference: str) -> str:
    """The name of a figure from its reference in a configuration: the name itself, or `package.module:name`."""
    return reference.rpartition(":")[2]


def load_figure(reference: str, where: str) -> Drawing:
    """The figure that the setting `where` refers to; raises `UserError` if there is none."""
    if ":" in reference:
        load_function(reference, where)
    return FIGURES.named(figure_name(reference), where)


def figure_files(described: Mapping[str, Any]) -> list[Path]:
    """The files of the modules behind a system's figures, outside of this library."""
    modules = [str(reference).rpartition(":")[0] for reference in described.get("figures") or ()]
    files = [module_file(module) for module in modules if module]
    return sorted({file for file in files if file is not None and LIBRARY not in file.parents})
