"""How far people agree in what they prefer, and what else their judgements say of themselves."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sysdpo.library.judgements import CHOICES, TIE, Judgement


@dataclass(frozen=True)
class Person:
    """What one person has judged: how many pairs, how many of them as ties, and how many for the left side.

    Of pairs that are no ties about half should go to the left, since sides are drawn at random.
    """

    judged: int
    ties: int
    left: int


@dataclass(frozen=True)
class Agreement:
    """people: by name. shared: pairs that two or more of them have judged.

    percent: of all two judgements of one pair, the share that say the same, in [0, 1]. alpha: Krippendorff's alpha for
    nominal data, over `first`, `second` and `tie`: 1 is perfect agreement, 0 what chance would give. Both are None
    without shared pairs, and alpha where all judgements say the same: chance alone would then give that, too.
    preferred: how often each method's output was preferred, where two methods were compared, and `tie`.
    """

    people: Mapping[str, Person]
    shared: int
    percent: float | None
    alpha: float | None
    preferred: Mapping[str, int]

    def lines(self) -> Iterator[str]:
        """It all in sentences."""
        for name, person in self.people.items():
            decided = person.judged - person.ties
            told = f"; of the other {decided}, {person.left} for the left side" if decided else ""
            yield f"{name} has judged {_pairs(person.judged)}, {person.ties} as ties{told}."
        if self.preferred:
            yield f"Preferred: {', '.join(f'{name} {count}' for name, count in self.preferred.items())}."
        if self.percent is None:
            yield "Agreement: no pair has been judged by two people yet."
        else:
            alpha = "is not defined, since all say the same" if self.alpha is None else f"{self.alpha:.2f}"
            yield (
                f"Agreement: {100 * self.percent:.1f} % on the {_pairs(self.shared)} that two or more people have "
                f"judged; Krippendorff's alpha {alpha}."
            )


def agreement(judgements: Iterable[Judgement]) -> Agreement:
    """Of all these judgements; of two by one person on one pair, the later one counts."""
    by_pair: dict[str, dict[str, Judgement]] = defaultdict(dict)
    people: dict[str, list[Judgement]] = defaultdict(list)
    for judged in {(judged.annotator, judged.pair): judged for judged in judgements}.values():
        by_pair[judged.pair][judged.annotator] = judged
        people[judged.annotator].append(judged)
    shared = [list(found.values()) for found in by_pair.values() if len(found) > 1]
    same = [one.preferred == other.preferred for found in shared for one, other in combinations(found, 2)]
    return Agreement(
        {name: _person(found) for name, found in sorted(people.items())},
        len(shared),
        sum(same) / len(same) if same else None,
        _alpha([[judged.preferred for judged in found] for found in shared]),
        _preferred([judged for found in people.values() for judged in found]),
    )


def _alpha(ratings: list[list[str]]) -> float | None:
    """Krippendorff, Content Analysis (4th edition, 2019), chapter 12. ratings: of each pair what was said of it."""
    counts = np.array([[found.count(choice) for choice in CHOICES] for found in ratings])
    if len(counts) == 0 or (counts.sum(0) > 0).sum() < 2:
        return None
    import krippendorff

    value = float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
    return value if math.isfinite(value) else None


def _person(judgements: list[Judgement]) -> Person:
    ties = sum(judged.preferred == TIE for judged in judgements)
    return Person(len(judgements), ties, sum(judged.preferred == judged.left for judged in judgements))


def _preferred(judgements: list[Judgement]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for judged in judgements:
        methods = {"first": judged.first.get("method"), "second": judged.second.get("method")}
        if None not in methods.values():
            counts.update(dict.fromkeys(filter(None, methods.values()), 0))
            counts[methods.get(judged.preferred) or TIE] += 1
    return dict(sorted(counts.items(), key=lambda entry: (entry[0] == TIE, entry[0])))


def _pairs(count: int) -> str:
    return f"{count} pair{'' if count == 1 else 's'}"
