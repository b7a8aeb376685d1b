"""Tables in GitHub's markdown, for which pandas would need another library."""

from collections.abc import Sequence


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """The lines of a table: headings, rule and rows, with cells in markdown.

    numbers: all columns but the first are right-aligned, and empty cells become dashes.
    """
    rule = "---:" if numbers else "---"
    lines = [list(headings), ["---", *[rule] * (len(headings) - 1)]]
    lines += [[cell or "–" for cell in row] if numbers else list(row) for row in rows]
    return [f"|{'|'.join(cells)}|" if cells is lines[1] else f"| {' | '.join(cells)} |" for cells in lines]


def plain(text: str, special: str = "|\\`*[]<") -> str:
    """Text on one line with markdown's special characters escaped."""
    return " ".join("".join(f"\\{character}" if character in special else character for character in text).split())
