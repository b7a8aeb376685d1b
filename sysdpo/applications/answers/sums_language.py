"""The language of the sums: word problems, the steps that solve them, and the right answer.

A question starts from a number and changes it twice: "tom has 7 pears , finds 2 , loses 3". A draft writes the steps in
one of two dialects. Dialect A leaves the second sign open ("7 plus 2 by 3"), dialect B has both ("7 up 2 down 3"). The
answer lists the running totals ("9 , 6"). All numbers and totals, even after a wrong reading of a sign, lie in 0 to 15.
The world is our choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np

VERBS = dict.fromkeys(("finds", "buys", "wins", "picks"), 1) | dict.fromkeys(("loses", "eats", "sells", "drops"), -1)
"""Each verb's sign."""

CARELESS = ("picks", "wins", "drops", "eats")
"""The verbs whose step the first model tends to leave out."""

NAMES = ("ann", "ben", "mia", "tom")
THINGS = ("pears", "coins", "nuts", "cards")
SIGNS: dict[str, dict[int, str]] = {"A": {1: "plus", -1: "minus"}, "B": {1: "up", -1: "down"}}
OPEN = "by"
"""Dialect A's word before the second change, for either sign."""

SEPARATOR = " , "
FIRST_TEMPLATE = "{0} :"
SECOND_TEMPLATE = "{0} : {1} ="
LARGEST = 15


@dataclass(frozen=True)
class Sum:
    """A start and two signed changes."""

    start: int
    changes: tuple[int, int]

    @property
    def result(self) -> int:
        """The final total."""
        return self.start + sum(self.changes)

    @property
    def text(self) -> str:
        """The sum in figures: "7 +2 -3"."""
        return " ".join([str(self.start), *(f"{change:+d}" for change in self.changes)])


@dataclass(frozen=True)
class Question:
    """A sum as a word problem: who has what, and the verb of each change."""

    sum: Sum
    verbs: tuple[str, str]
    name: str
    thing: str

    @property
    def text(self) -> str:
        """The question as a sentence."""
        steps = [f"{verb} {abs(change)}" for verb, change in zip(self.verbs, self.sum.changes, strict=True)]
        return SEPARATOR.join([f"{self.name} has {self.sum.start} {self.thing}", *steps])


def sums() -> list[Sum]:
    """Every sum whose second change stays in 0 to 15 with either sign, added to the start or to the first total."""
    valid = []
    for start, total in product(range(LARGEST + 1), repeat=2):
        room = min(start, LARGEST - start, total, LARGEST - total)
        if start != total:
            valid += [Sum(start, (total - start, sign * n)) for n in range(1, room + 1) for sign in (1, -1)]
    return valid


def questions(of: Iterable[Sum]) -> list[Question]:
    """Every wording of each of these sums."""
    verbs = {sign: [verb for verb, direction in VERBS.items() if direction == sign] for sign in (1, -1)}
    worded = []
    for problem in of:
        first, second = (verbs[1 if change > 0 else -1] for change in problem.changes)
        worded += [Question(problem, (one, two), *who) for one, two, *who in product(first, second, NAMES, THINGS)]
    return worded


def draft(of: Sum, dialect: str, dropped: int | None = None) -> str:
    """The steps of a sum in dialect `A` or `B`; `dropped` is the index of a change left out."""
    words = [str(of.start)]
    for index, change in enumerate(of.changes):
        if index != dropped:
            sign = OPEN if dialect == "A" and index == 1 else SIGNS[dialect][1 if change > 0 else -1]
            words += [sign, str(abs(change))]
    return " ".join(words)


def dialect_of(text: str) -> str | None:
    """The dialect of a draft with both steps; None for any other text."""
    words = text.split()
    if len(words) != 5 or not all(word.isdigit() for word in words[::2]):
        return None
    if words[1] in SIGNS["A"].values() and words[3] == OPEN:
        return "A"
    return "B" if {words[1], words[3]} <= set(SIGNS["B"].values()) else None


def readings(text: str) -> list[tuple[int, ...]]:
    """The running totals of a draft, one tuple per reading of its open sign."""
    words = text.split()
    meaning = {word: (sign,) for signs in SIGNS.values() for sign, word in signs.items()} | {OPEN: (1, -1)}
    read: list[tuple[int, ...]] = []
    for signs in product(*(meaning[word] for word in words[1::2])):
        changes = [sign * int(amount) for sign, amount in zip(signs, words[2::2], strict=True)]
        read.append(tuple((int(words[0]) + np.cumsum(changes)).tolist()))
    return read


def answer(totals: tuple[int, ...]) -> str:
    """The second model's answer with these running totals."""
    return SEPARATOR.join(map(str, totals))


def is_right(text: str, expected: str) -> bool:
    """Whether an answer ends with the expected total."""
    return text.split(SEPARATOR.strip())[-1].strip() == expected
