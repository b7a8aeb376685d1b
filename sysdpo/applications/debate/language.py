"""The language of the debate: what each debater knows, what it may say, and which verdict is right.

A number is changed twice: "tom has 7 pears , finds 2" is all that the left debater knows, "tom then loses 3" all that
the right one does; what is left in the end is asked for. An *opening* tells the other what one knows, in one of two
dialects: dialect A leaves the sign of the change open ("7 by 2"), dialect B tells it ("7 up 2", "down 3"). A *reply* is
the running totals by one's own knowledge and the other's opening ("9 , 6"); a *closing* is a reply after the other's
was read. Every number, and every total that a wrong reading leads to, lies in 0 to 21. The world is our choice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

LARGEST = 21
VERBS = {1: ("finds", "buys", "wins", "picks"), -1: ("loses", "eats", "sells", "drops")}
NAMES = ("ann", "ben", "mia", "tom")
THINGS = ("pears", "coins", "nuts", "cards")
TOLD = {1: "up", -1: "down"}
"""Dialect B's words for the sign of a change."""
OPEN = "by"
"""Dialect A's word, for either sign."""
SEPARATOR = " , "
NO_VERDICT = "no verdict"

OPENING, REPLY, CLOSING = "{0} :", "{0} : {1} =", "{0} & {1} ="
"""Prompts: from what one knows; with the other's opening; from the two latest replies, one's own first."""


@dataclass(frozen=True)
class Case:
    """A start and two signed changes; the left debater knows the first two numbers, the right one the third."""

    start: int
    first: int
    second: int

    @property
    def result(self) -> int:
        """What is left in the end."""
        return self.start + self.first + self.second

    @property
    def text(self) -> str:
        """In figures: "7 +2 -3"."""
        return f"{self.start} {self.first:+d} {self.second:+d}"


@dataclass(frozen=True)
class Question:
    """A case told in words, half to each debater."""

    case: Case
    left: str
    right: str


def cases() -> list[Case]:
    """Every case whose totals stay in 0 to `LARGEST`, whichever way the two signs are read."""
    found = []
    for start, one, two in product(range(LARGEST + 1), range(1, LARGEST + 1), range(1, LARGEST + 1)):
        if one + two <= min(start, LARGEST - start):
            found += [Case(start, first * one, second * two) for first, second in product((1, -1), repeat=2)]
    return found


def questions(of: Iterable[Case]) -> list[Question]:
    """Every question that tells one of these cases."""
    told = []
    for case in of:
        verbs = (VERBS[1 if change > 0 else -1] for change in (case.first, case.second))
        for one, two, name, thing in product(*verbs, NAMES, THINGS):
            left = f"{name} has {case.start} {thing}{SEPARATOR}{one} {abs(case.first)}"
            told.append(Question(case, left, f"{name} then {two} {abs(case.second)}"))
    return told


def opening(case: Case, side: str, *, tells: bool) -> str:
    """What a debater says of its half, in dialect B where it `tells` the sign, else in dialect A."""
    change = case.first if side == "left" else case.second
    said = f"{TOLD[1 if change > 0 else -1] if tells else OPEN} {abs(change)}"
    return f"{case.start} {said}" if side == "left" else said


def reply(case: Case, side: str, sign: int) -> str:
    """The running totals of a debater that takes the sign of the other's change for this one."""
    if side == "left":
        total = case.start + case.first
        return f"{total}{SEPARATOR}{total + sign * abs(case.second)}"
    total = case.start + sign * abs(case.first)
    return f"{total}{SEPARATOR}{total + case.second}"


def tells_sign(opening: str) -> bool:
    """Whether an opening is in dialect B."""
    return any(word in opening.split() for word in TOLD.values())


def total_of(text: str) -> str:
    """The last total of a reply."""
    return text.split(SEPARATOR.strip())[-1].strip()


def vote(left: str, right: str) -> str:
    """The total that both debaters end with, or that there is no verdict."""
    ends = {total_of(left), total_of(right)}
    return ends.pop() if len(ends) == 1 else NO_VERDICT
