"""The studies in the report: each is a file of `sysdpo.studies.shown` with its figure, table and text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.base.registry import Registry
from sysdpo.report.style import save


@dataclass(frozen=True)
class Study:
    """How the report shows one study.

    title, intro: of its section. caption: of its figure. figure: draws the study's table. table: the part of it that is
    printed. sentences: what it says. lead: a clause about the study in the report's first paragraph.
    """

    title: str
    intro: str
    caption: str
    figure: Callable[[pd.DataFrame], Figure]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    sentences: Callable[[pd.DataFrame], Sequence[str]]
    lead: str = ""


STUDIES: Registry[Study] = Registry("study", "sysdpo.studies.shown")
"""How studies are shown, by their names."""


def write_study_figure(study: str, table_csv: Path, folder: Path) -> None:
    """Write `study_{study}.png` and `.svg`; raises `UserError` for an unknown study or another study's table."""
    save(STUDIES.named(study, "--study").figure(read_table(table_csv, ())), folder, f"study_{study}")


def check_columns(table: pd.DataFrame, study: str, columns: Sequence[str]) -> None:
    """Raises `UserError` if a study's table lacks one of these columns."""
    if missing := [name for name in columns if name not in table.columns]:
        raise UserError(f"The table of {study} has no column '{missing[0]}'; it needs {', '.join(columns)}.")
