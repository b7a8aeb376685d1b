"""The studies, computations that need no preference data: each with its figure and its sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from sysdpo.base.errors import UserError
from sysdpo.report import files, theory
from sysdpo.report.coverage import coverage_figure, coverage_sentences, coverage_table
from sysdpo.report.gradients import gradients_figure, gradients_sentences, gradients_table
from sysdpo.report.style import save


@dataclass(frozen=True)
class Study:
    """What is particular to one study: functions from its table, and words for its figure."""

    title: str
    intro: str
    caption: str
    figure: Callable[[pd.DataFrame], Figure]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    sentences: Callable[[pd.DataFrame], Sequence[str]]


STUDIES: dict[str, Study] = {
    "theory": Study(
        title="Theory",
        intro=(
            "Aligned perfectly, a system is tilted by exactly the preference. On systems small enough to count every "
            "outcome, with preferences from a known reward, there is no sampling noise: one sees whether the optimum "
            "of a loss is that system."
        ),
        caption=(
            "The alignment gap is the largest difference, in logits, between what a trained system prefers and the "
            "true preference; below the dashed line it counts as aligned. A column a system, its graph above: the gap "
            "over the updates, then at their end over how many candidates SysDPO-Sampling sums over, and over how many "
            "of the intermediates the preference data contain."
        ),
        figure=theory.theory_figure,
        table=theory.theory_table,
        sentences=theory.sentences,
    ),
    "gradients": Study(
        title="Gradients of the sum",
        intro=(
            "SysDPO-Sampling sums over a few candidates for what is hidden. Where every hidden value can be counted, "
            "the gradient it follows can be held against the exact one."
        ),
        caption=(
            "Above, how far the expected gradient of log p(z|x) is from the exact one, below how much single estimates "
            "scatter around their mean, both as shares of the exact gradient's norm. Beams are deterministic and have "
            "no scatter. Bars are 95 % intervals."
        ),
        figure=gradients_figure,
        table=gradients_table,
        sentences=gradients_sentences,
    ),
    "coverage": Study(
        title="Do the intervals hold the truth?",
        intro=(
            "A 95 % interval should hold the true value in 95 of 100 runs. In simulated runs the true value is known, "
            "and one can count, over how many seeds there are and how much they differ."
        ),
        caption=(
            "The share of simulated runs whose interval holds the true value, for every kind of interval that is shown "
            "here. The seed variance says how much seeds differ: as a multiple of what the choice of prompts adds to "
            "the variance of one seed's mean. The band is 93 to 97 %; bars are 95 % Monte-Carlo intervals."
        ),
        figure=coverage_figure,
        table=coverage_table,
        sentences=coverage_sentences,
    ),
}


def write_study_figure(study: str, table_csv: Path, folder: Path) -> None:
    """Writes `study_{study}.png` and `.svg` into `folder`, from `results/studies/{study}.csv`.

    Raises UserError for a study without a figure, and where the table or a column of it is missing.
    """
    if study not in STUDIES:
        raise UserError(f"--study: '{study}' should be one of {', '.join(STUDIES)}.")
    save(STUDIES[study].figure(files.read_table(table_csv, ())), folder, f"study_{study}")
