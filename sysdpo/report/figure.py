"""The figures of a system by their names: a file of `sysdpo.report.figures` each, or any function that is importable.

No library is imported here: a workflow may check the names before its first job.
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
    """From the `Run` of a system."""

PACKAGE = "sysdpo.report.figures"
FIGURES: Registry[Drawing] = Registry("figure", PACKAGE)


@dataclass(frozen=True)
class Drawing:
    """A figure: its heading on the page, what to see in it, and the function that draws it from a run.

    A heading or caption may hold `{subject}`, `{rival}` and `{hidden}`, for what the system's first method of that kind
    is called: the first that is set off, its main baseline, and the one that sums over what is hidden.
    """

    heading: str
    caption: str
    draw: Draw


def figure(*, heading: str, caption: str) -> Callable[[Draw], Draw]:
    """Registers the function that it decorates as a figure of that function's name, which is its file's name, too."""

    def put(draw: Draw) -> Draw:
        FIGURES.register(draw.__name__)(Drawing(heading, caption, draw))
        return draw

    return put


def figure_name(reference: str) -> str:
    """The name of a figure, from what a configuration calls it: that name itself, or `package.module:name`."""
    return reference.rpartition(":")[2]


def load_figure(reference: str, where: str) -> Drawing:
    """The figure that the setting `where` names; raises `UserError` if there is none."""
    if ":" in reference:
        load_function(reference, where)
    return FIGURES.named(figure_name(reference), where)


def figure_files(described: Mapping[str, Any]) -> list[Path]:
    """The files of the modules behind a system's own figures, those of this library left out."""
    named = [str(reference).rpartition(":")[0] for reference in described.get("figures") or ()]
    found = [module_file(module) for module in named if module]
    return sorted({file for file in found if file is not None and LIBRARY not in file.parents})
