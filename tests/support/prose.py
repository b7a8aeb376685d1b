"""Whether a text about results says no more than the results do.

A reference such as `<!-- claim: qa-direct-over-separate -->` stands behind what it bears out: the words since the last
reference, or since the sentence began. Several ids are separated by commas; those of `results/laptop` begin with
`laptop/`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from described import committed

NUMBER = r"[−+-]?\d+(?:\.\d+)?"
INTERVAL = re.compile(rf"({NUMBER})[^\d\[\]|]{{0,60}}\[({NUMBER}), ({NUMBER})\]")
REFERENCE = re.compile(r"\s*<!-- claim: (.*?) -->", re.DOTALL)
BLOCK = re.compile(r"<!-- claims: .*?<!-- end of claims -->", re.DOTALL)

WORDS = {
    "up": r"above|higher|more than|larger|greater|exceeds?",
    "down": r"below|lower|less than|fewer|smaller",
    "better": r"beats?|better|best(?! of)|ahead|leads?|wins?|outperforms?|improves?|surpass(?:es)?|stronger",
    "worse": r"worse|worst|behind|loses?|lost|lags?|weaker",
    "size": r"twice|doubles?|triples?|half|halves|times",
}
COMPARING = "|".join(WORDS.values())
DENIAL = rf"\b(?:not?|never|neither|nor)\s+(?:\w+\s+){{0,2}}?(?:{COMPARING})\b"
DOUBT = r"ties?|tied|undecided|no difference|not told apart|cannot be told apart|as good as|equals?|within"
OPEN = r"whether|cannot be told apart|not shown"
"""What makes of a comparison a question."""


def has(words: str, text: str) -> bool:
    return re.search(rf"\b(?:{words})\b", text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Statement:
    """Words, and the ids of the claims that are to bear them out."""

    text: str
    claims: tuple[str, ...]


def sections(text: str, *headings: str) -> str:
    """The sections whose headings begin so (`## Experiments`), each to the next heading of its level or above."""
    found = []
    for heading in headings:
        level = len(heading) - len(heading.lstrip("#"))
        end = rf"(?=^#{{1,{level}}} |\Z)"
        found += re.findall(rf"^{re.escape(heading)}.*?{end}", text, re.MULTILINE | re.DOTALL)
    return "\n".join(found)


def statements(text: str) -> Iterator[Statement]:
    """What a page says outside of code, quotations, tables, pictures and generated blocks, piece by piece."""
    text = re.sub(r"```.*?```", "", BLOCK.sub("", text), flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\"[^\"]*\"", "Quoted", re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text))
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in text.splitlines() if not line.startswith(("|", "#"))]
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", "\n".join(lines)):
        marked = REFERENCE.sub(lambda found: f"⟦{found[1]}⟧", paragraph)
        for sentence in re.split(r"(?<=[.!?:⟧])\s+(?=\W*[A-Z])", marked):
            for said, ids in re.findall(r"([^⟦⟧]+)(?:⟦(.*?)⟧)?", sentence, re.DOTALL):
                claims = tuple(each.strip() for each in ids.split(",") if each.strip())
                if re.search(r"\w", said):
                    yield Statement(" ".join(said.split()), claims)


def overclaims(text: str, claims: Mapping[str, pd.Series]) -> list[str]:
    """A line for each statement that its claims do not bear out; `claims`: rows of `claims.csv` by their ids."""
    return [f"'{each.text}' {problem}" for each in statements(text) for problem in _problems(each, claims)]


def _problems(statement: Statement, claims: Mapping[str, pd.Series]) -> Iterator[str]:
    text = statement.text
    compares, doubts = has(COMPARING, text), has(DOUBT, text)
    if not statement.claims:
        if compares or doubts or _intervals(text):
            yield "names no claim"
        return
    if unknown := [name for name in statement.claims if name not in claims]:
        yield f"names {unknown}, which is no claim"
        return
    rows = [claims[name] for name in statement.claims]
    denied = re.search(DENIAL, text, re.IGNORECASE) is not None
    if compares and doubts and not has(OPEN, text):
        yield "both compares and doubts: each needs a reference of its own"
    kind = "doubtful" if doubts else "denied" if denied else "true"
    for row in rows:
        if _kind(row) != kind:
            yield f"needs a claim that is {kind}; '{row['id']}' is '{row['condition']}' and {row['verdict']}"
    if kind == "true":
        yield from _wrong_way(text, rows)
    own = {shown for row in rows for shown in _shown(row, "value")}
    yield from (f"gives the interval {shown}, which none of its claims has" for shown in _intervals(text) - own)


def _kind(row: pd.Series) -> str:
    """Equivalence is no better than a tie, and a claim that is undecided shows nothing."""
    if row["verdict"] == "does not hold":
        return "denied"
    return "doubtful" if row["verdict"] == "undecided" or row["condition"] == "within" else "true"


def _wrong_way(text: str, rows: list[pd.Series]) -> Iterator[str]:
    metric_of = committed().metric
    ways = [(_direction(row), metric_of(row["system"], row["metric"]).higher_is_better) for row in rows]
    there = {"up" if way > 0 else "down" for way, _ in ways if way}
    there |= {"better" if (way > 0) == higher else "worse" for way, higher in ways if way}
    there |= {"size" for row in rows if row["condition"] in ("at_least", "at_most")}
    for word, pattern in WORDS.items():
        if has(pattern, text) and word not in there:
            yield f"has a word of the kind '{word}', and no claim of it that says so"


def _direction(row: pd.Series) -> int:
    """1 for a claim that something is more, -1 for less, 0 for one that says neither."""
    up = row["condition"] == "above" or (row["condition"] == "at_least" and row["bound"] >= 0)
    down = row["condition"] == "below" or (row["condition"] == "at_most" and row["bound"] <= 0)
    return int(up) - int(down)


def unknown_intervals(text: str, tables: Iterable[pd.DataFrame]) -> list[str]:
    """The numbers with an interval in a text that no row of the tables has, as the text rounds them."""
    known: set[tuple[str, ...]] = set()
    for table in tables:
        middle = next(name for name in ("mean", "difference", "value") if name in table)
        for _, row in table.iterrows():
            known |= _shown(row, middle)
    return [f"{value} [{low}, {high}]" for value, low, high in sorted(_intervals(text) - known)]


def _intervals(text: str) -> set[tuple[str, ...]]:
    return {tuple(each.lstrip("+").replace("−", "-") for each in found) for found in INTERVAL.findall(text)}


def _shown(row: pd.Series, middle: str) -> set[tuple[str, ...]]:
    """A row's number and interval as a text may give them: in percent or not, a difference either way round."""
    value, low, high = (float(row[name]) for name in (middle, "ci_low", "ci_high"))
    ways = [(value, low, high)] if middle == "mean" else [(value, low, high), (-value, -high, -low)]
    return {
        tuple(_rounded(number * scale, digits) for number in way)
        for way in ways
        for scale in (1, 100)
        for digits in range(5)
    }


def _rounded(number: float, digits: int) -> str:
    shown = f"{number:.{digits}f}"
    return shown.lstrip("-") if float(shown) == 0 else shown


def read_claims_below(results: Path) -> dict[str, pd.Series]:
    """The rows of every `claims.csv` below a folder, by their ids, those of other scales with their folder's name."""
    found = {}
    for path in sorted(results.rglob("claims.csv")):
        folder = "" if path.parent == results else f"{path.parent.relative_to(results)}/"
        for _, row in pd.read_csv(path, keep_default_na=False).iterrows():
            found[f"{folder}{row['id']}"] = row
    return found
