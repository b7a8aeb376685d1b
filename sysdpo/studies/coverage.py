"""How often do the intervals of `sysdpo.report.intervals` hold the truth? Simulated runs whose true means are known.

Each prompt of each seed has a latent normal value of variance 1, `√r x_seed + √(1−r) (√k x_content + √(1−k) x)`. A
score is the latent value itself; an answer is right where it lies below a threshold, so that the true rate is known
exactly (the probit model of clustered binary data); a comparison of two outputs has two thresholds, for a win and for a
tie. Two methods that are compared meet the same contents, and what a seed adds is each method's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.report.intervals import INTERVALS
from sysdpo.studies.settings import Coverage

COLUMNS = (
    *("kind", "interval", "rate", "rival_rate", "prompts", "contents", "seed_variance", "seeds"),
    *("coverage", "coverage_se", "width"),
)
BATCH = 250
NORMAL = NormalDist()
X, MASS = np.polynomial.hermite_e.hermegauss(100)
MASS = MASS / MASS.sum()
"""Expectations over a standard normal, by Gauss-Hermite."""


@dataclass(frozen=True)
class Kind:
    """What is estimated: a mean of values, or the difference of two methods' means.

    rates: of each method, the probabilities of lying below its thresholds, ascending, their mean the true rate; none
    for the latent value itself. interval: of `sysdpo.report.intervals.INTERVALS`. content_share: `k`.
    """

    name: str
    interval: str
    rates: tuple[tuple[float, ...], ...]
    content_share: float = 0.3

    @property
    def truth(self) -> float:
        """The mean that the interval should hold."""
        first, *rest = (sum(rates) / len(rates) if rates else 0.0 for rates in self.rates)
        return first - sum(rest)


KINDS = (
    Kind("mean score", "mean", ((),), 0.5),
    Kind("difference of mean scores", "mean", ((),), 0.2),
    *(Kind("proportion", "proportion", ((rate,),)) for rate in (0.5, 0.9, 0.97, 0.99)),
    Kind("win rate", "proportion", ((0.6, 0.8),)),
    *(
        Kind("difference of proportions", "proportion difference", ((rate,), (rival,)))
        for rate, rival in ((0.5, 0.5), (0.9, 0.9), (0.97, 0.9), (0.97, 0.97), (0.99, 0.97), (0.99, 0.99))
    ),
)


def run(settings: Coverage) -> pd.DataFrame:
    """A row a kind of interval, number of contents, seed variance and number of seeds, with the columns `COLUMNS`.

    `coverage` is the share of replicates whose interval holds the true mean, `coverage_se` its Monte-Carlo standard
    error, `width` the intervals' mean width. Rows that differ in the number of seeds alone share their draws.
    """
    rows = []
    for number, kind in enumerate(KINDS):
        for contents in settings.contents:
            for variance in settings.seed_variances:
                share = seed_share(kind, variance, settings.prompts, contents)
                generator = numpy_generator("coverage", settings.seed, number, contents, repr(variance))
                found = _simulate(kind, share, contents, settings, generator)
                rates = [sum(each) / len(each) if each else None for each in kind.rates]
                fixed = (kind.name, kind.interval, *rates, *[None] * (2 - len(rates)))
                rows += [(*fixed, settings.prompts, contents, variance, *each) for each in found]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"rate": float, "rival_rate": float})


def seed_share(kind: Kind, variance: float, prompts: int, contents: int) -> float:
    """The share `r` of the latent variance at which seeds' true means vary `variance` times as much as prompts add.

    What prompts add to one seed's mean is counted with seeds that do not differ.
    """
    between = _variance(sum(_given(rates, kind.content_share) * sign for rates, sign in _signed(kind)))
    within = sum(_within(rates, kind.content_share) for rates in kind.rates)
    aim = variance * (between / contents + within / prompts)
    low, high = 0.0, 1 - 1e-9
    if aim > sum(_variance(_given(rates, high)) for rates in kind.rates):
        raise UserError(f"studies.coverage.seed_variances: {variance} is more than a {kind.name} can vary")
    for _ in range(60):
        middle = (low + high) / 2
        if sum(_variance(_given(rates, middle)) for rates in kind.rates) < aim:
            low = middle
        else:
            high = middle
    return low


def _simulate(
    kind: Kind, share: float, contents: int, settings: Coverage, generator: np.random.Generator
) -> list[tuple[int, float, float, float]]:
    """Seeds, coverage, its standard error and the mean width, for each number of seeds."""
    numbers = np.repeat(np.arange(contents), settings.prompts // contents)
    most, replicates = max(settings.seeds), settings.replicates
    held, width = dict.fromkeys(settings.seeds, 0), dict.fromkeys(settings.seeds, 0.0)
    for start in range(0, replicates, BATCH):
        batch = min(BATCH, replicates - start)
        values = _draw(kind, share, numbers, (batch, most), generator)
        for seeds in settings.seeds:
            _, low, high = INTERVALS[kind.interval](values[:, :seeds], numbers)
            held[seeds] += int(((low <= kind.truth) & (kind.truth <= high)).sum())
            width[seeds] += float((high - low).sum())
    found = []
    for seeds in settings.seeds:
        coverage = held[seeds] / replicates
        found.append((seeds, coverage, (coverage * (1 - coverage) / replicates) ** 0.5, width[seeds] / replicates))
    return found


def _draw(
    kind: Kind, share: float, numbers: NDArray[np.integer], runs: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Values `[replicates, S, P]` of a mean, or paired differences. numbers: of each prompt's content."""
    prompts, replicates = len(numbers), runs[0]
    kept = kind.content_share
    content = _normal(generator, replicates, int(numbers.max()) + 1)[:, None, numbers]
    values = np.zeros((*runs, prompts))
    for rates, sign in _signed(kind):
        latent = _normal(generator, *runs, prompts)
        latent *= np.float32(((1 - share) * (1 - kept)) ** 0.5)
        latent += np.float32(((1 - share) * kept) ** 0.5) * content
        latent += np.float32(share**0.5) * _normal(generator, *runs, 1)
        if not rates:
            values += sign * latent
        for rate in rates:
            values += (latent < np.float32(NORMAL.inv_cdf(rate))) * (sign / len(rates))
    return values


def _normal(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """In single precision, which halves the study's time."""
    return generator.standard_normal(shape, dtype=np.float32)


def _signed(kind: Kind) -> Sequence[tuple[tuple[float, ...], int]]:
    return [(rates, -1 if place else 1) for place, rates in enumerate(kind.rates)]


def _given(rates: tuple[float, ...], share: float) -> Any:
    """Expected values where this share of the latent variance is known to be at `X`."""
    if not rates:
        return share**0.5 * X
    return sum(_below(rate, share) for rate in rates) / len(rates)


def _within(rates: tuple[float, ...], share: float) -> float:
    """The variance that is left where this share of the latent variance is known, on average."""
    if not rates:
        return 1 - share
    # Below a threshold is below all later ones: of K indicators I_1 ≤ … ≤ I_K, (Σ I)² = Σ (2(K − i) + 1) I_i.
    squares = sum((2 * later + 1) * _below(rate, share) for later, rate in enumerate(reversed(rates)))
    return float((MASS * (squares / len(rates) ** 2 - _given(rates, share) ** 2)).sum())


def _below(rate: float, share: float) -> NDArray[np.float64]:
    threshold = NORMAL.inv_cdf(rate)
    return np.array([NORMAL.cdf((threshold - share**0.5 * x) / (1 - share) ** 0.5) for x in X.tolist()])


def _variance(values: NDArray[np.float64]) -> float:
    return float((MASS * (values - (MASS * values).sum()) ** 2).sum())
