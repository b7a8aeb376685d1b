"""The studies that are shown: each is one file of `sysdpo.studies.shown`, with its figure, its table and its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sysdpo.base.files import read_table
from sysdpo.base.registry import Registry
from sysdpo.report.style import save


@dataclass(frozen=True)
class Study:
    """What is particular to one study: functions from its table, and words for the page.

    title, intro: of its section. caption: what to see in its figure. lead: what the page's first paragraph says of it.
    """

    title: str
    intro: str
    caption: str
    figure: Callable[[pd.DataFrame], Figure]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    sentences: Callable[[pd.DataFrame], Sequence[str]]
    lead: str = ""


STUDIES: Registry[Study] = Registry("study", "sysdpo.studies.shown")


def write_study_figure(study: str, table_csv: Path, folder: Path) -> None:
    """Writes `study_{study}.png` and `.svg`; raises `UserError` for a study that is not shown, or another's table."""
    save(STUDIES.named(study, "--study").figure(read_table(table_csv, ())), folder, f"study_{study}")
