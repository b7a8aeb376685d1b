"""Blocks in markdown pages that are generated from a run's tables.

A block lies between `<!-- claims: NAME -->` and `<!-- end of claims -->`, or between `<!-- table: NAME: METRICS -->`
and `<!-- end of table -->`. NAME is a system, or `folder/system` for a run in a subfolder. A block between
`<!-- confirmed: A by B -->` and `<!-- end of confirmed -->` lists the claims on which the runs in the folders A and B
disagree (`.` for the results folder itself).
"""

from __future__ import annotations

import re
from pathlib import Path

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.claims import claim_lines, confirmation_lines, read_claim_table
from sysdpo.report.descriptions import Descriptions
from sysdpo.report.tables import value_lines

BEGIN = re.compile(r"<!-- (claims|table|confirmed): ([^>]*?) -->\n")
END = "<!-- end of {} -->"


def quote(results: Path, descriptions: Descriptions, page: Path) -> None:
    """Rewrite each block of a page; raises `UserError` if one has no end, or there are no results of its name."""
    try:
        text = page.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"'{page}' should be a text with blocks to rewrite, but cannot be read ({error})") from error
    files.write_text(page, quoted(text, results, descriptions, f"'{page}'"))


def quoted(text: str, results: Path, descriptions: Descriptions, where: str) -> str:
    """`text` with all blocks generated from the tables below `results`; `where`: a name for the text in errors."""
    written, offset = "", 0
    while match := BEGIN.search(text, offset):
        kind, name = match.groups()
        end = text.find(END.format(kind), match.end())
        if end < 0:
            raise UserError(f"{where}: the block '{kind}: {name}' should end with the line '{END.format(kind)}'")
        lines = BLOCKS[kind](results, name, descriptions, where)
        written += text[offset : match.end()] + "".join(f"{line}\n" for line in lines)
        offset = end
    return written + text[offset:]


def _claims(results: Path, name: str, descriptions: Descriptions, where: str) -> list[str]:
    folder, _, system = name.rpartition("/")
    path = results / folder / "claims.csv"
    claims = [claim for claim in read_claim_table(path) if claim.system == system]
    if not claims:
        raise UserError(f"{where}: there are no claims about '{system}' in '{path}'")
    return claim_lines(claims, descriptions.system(system))


def _table(results: Path, name: str, descriptions: Descriptions, where: str) -> list[str]:
    path, _, names = name.partition(": ")
    folder, _, system = path.rpartition("/")
    metrics = files.read_metrics(results / folder / "metrics.csv", system)
    if unknown := sorted(set(names.split()) - set(metrics["metric"])) or ([] if names else [""]):
        known = sorted(set(metrics["metric"]))
        raise UserError(f"{where}: the block 'table: {name}' should name metrics among {known}, not '{unknown[0]}'")
    return value_lines(descriptions.system(system), metrics, names.split())


def _confirmed(results: Path, name: str, descriptions: Descriptions, where: str) -> list[str]:
    one, by, other = name.partition(" by ")
    if not by:
        raise UserError(f"{where}: the block 'confirmed: {name}' should name two folders, 'A by B'")
    here, there = (read_claim_table(results / folder / "claims.csv") for folder in (one, other))
    return confirmation_lines(here, there, descriptions)


BLOCKS = {"claims": _claims, "table": _table, "confirmed": _confirmed}
