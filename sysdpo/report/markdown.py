"""Tables in GitHub's markdown: pandas would need another library for them."""

from collections.abc import Sequence


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """A line each for the headings, the rule below them and every row; cells are markdown already.

    numbers: all columns but the first are set to the right, and an empty cell is a dash.
    """
    rule = "---:" if numbers else "---"
    lines = [list(headings), ["---", *[rule] * (len(headings) - 1)]]
    lines += [[cell or "–" for cell in row] if numbers else list(row) for row in rows]
    return [f"|{'|'.join(cells)}|" if cells is lines[1] else f"| {' | '.join(cells)} |" for cells in lines]


def plain(text: str, special: str = "|\\`*[]<") -> str:
    """Text that markdown takes for a part of its cell and for no markup."""
    return " ".join("".join(f"\\{each}" if each in special else each for each in text).split())
