"""Comparing the conclusions of two runs whose bytes cannot be the same, because their machines differ for example.

The verdict of a comparison is whether the interval of the difference between a method and a baseline is above 0, below
0, or open. Two runs contradict each other if one says above and the other below. Both are our choice.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.report.claims import read_claim_table
from sysdpo.report.descriptions import Descriptions
from sysdpo.report.statistics import COMPARISON_COLUMNS

KEY = ["system", "metric", "method", "baseline"]
BELOW, OPEN, ABOVE = -1, 0, 1


def compare_verdicts(ours: Path, theirs: Path) -> str:
    """How many comparisons have the same verdict in both tables, as two lines of text.

    ours, theirs: two files `comparisons.csv`.

    Raises `UserError` if the first lacks comparisons of the second, or if verdicts contradict each other.
    """
    here, there = _verdicts(ours), _verdicts(theirs)
    if lost := [" ".join(map(str, key)) for key in there.index.difference(here.index)]:
        raise UserError(
            f"--comparisons: '{ours}' should have the {len(there)} comparisons of '{theirs}'; it lacks {len(lost)}, "
            f"'{lost[0]}' the first"
        )
    both = here.add_suffix("_ours").join(there.add_suffix("_theirs"), how="inner")
    opposite = both[both["verdict_ours"] * both["verdict_theirs"] == ABOVE * BELOW]
    if len(opposite):
        first = " ".join(map(str, opposite.index[0]))
        raise UserError(
            f"--comparisons: '{ours}' should contradict no verdict of '{theirs}'; of {len(both)} it contradicts "
            f"{len(opposite)}, '{first}' the first"
        )
    alike = int((both["verdict_ours"] == both["verdict_theirs"]).sum())
    inside = both["difference_ours"].between(both["ci_low_theirs"], both["ci_high_theirs"]).mean()
    others = "" if alike == len(both) else "; the others are open in one run and decided in the other"
    return (
        f"{alike} of {len(both)} verdicts are the same{others}.\n"
        f"{inside:.0%} of the differences lie inside the other run's interval."
    )


def _verdicts(path: Path) -> pd.DataFrame:
    table = read_table(path, COMPARISON_COLUMNS).set_index(KEY)
    verdict = np.select([table["ci_low"] > 0, table["ci_high"] < 0], [ABOVE, BELOW], OPEN)
    return table[["difference", "ci_low", "ci_high"]].assign(verdict=verdict)


def beside(ours: Path, theirs: Path | None, descriptions: Descriptions) -> str:
    """A line for each claim with its verdict and number in both tables, and a last line that counts equal verdicts.

    ours: the claims of this run. theirs: those that were committed; None shows this run's alone.
    """
    here = {claim.id: claim for claim in read_claim_table(ours)}
    said = {name: claim.short(descriptions.system(claim.system)) for name, claim in here.items()}
    if theirs is None:
        return _aligned([["claim", "this run"], *([name, short] for name, short in said.items())])
    there = {claim.id: claim for claim in read_claim_table(theirs)}
    lines, same = [["claim", "committed", "this run", ""]], 0
    for name in dict.fromkeys([*there, *here]):
        both = name in here and name in there
        before = there[name].short(descriptions.system(there[name].system)) if name in there else "–"
        agree = both and here[name].verdict == there[name].verdict
        same += agree
        mark = "other numbers" if agree else "another verdict" if both else "another set of claims"
        now = said.get(name, "–")
        lines.append([name, before, now, "" if before == now else f"<- {mark}"])
    return f"{_aligned(lines)}\n{same} of {len(lines) - 1} claims have the verdict of the committed run."


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
