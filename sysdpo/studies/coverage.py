"""How often do the intervals of `sysdpo.report.intervals` contain the truth? Simulated runs with known true means.

Each prompt of each seed has a latent normal value of variance 1, `√r x_seed + √(1−r) (√k x_content + √(1−k) x)`. A
score is the latent value itself; an answer is right if the value lies below a threshold, so that the true rate is known
exactly (the probit model of clustered binary data); a comparison of two outputs has two thresholds, for a win and for a
tie. Compared methods share the effects of contents, but not those of seeds.
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
"""Gauss-Hermite nodes and weights for expectations over a standard normal."""


@dataclass(frozen=True)
class Kind:
    """An estimated quantity: a mean of values, or the difference of two methods' means.

    rates: for each method, the ascending probabilities of lying below its thresholds, whose mean is the true rate, or
    none for the latent value itself. interval: a key of `sysdpo.report.intervals.INTERVALS`. content_share: `k`.
    """

    name: str
    interval: str
    rates: tuple[tuple[float, ...], ...]
    content_share: float = 0.3

    @property
    def truth(self) -> float:
        """The mean that the interval should contain."""
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
    """One row per kind of interval, number of contents, seed variance and number of seeds, with the columns `COLUMNS`.

    `coverage` is the share of replicates whose interval contains the true mean, `coverage_se` its Monte-Carlo standard
    error, `width` the intervals' mean width. Rows that differ only in the number of seeds share their draws.
    """
    rows = []
    for number, kind in enumerate(KINDS):
        for contents in settings.contents:
            for variance in settings.seed_variances:
                share = seed_share(kind, variance, settings.prompts, contents)
                generator = numpy_generator("coverage", settings.seed, number, contents, repr(variance))
                results = _simulate(kind, share, contents, settings, generator)
                means = [sum(rates) / len(rates) if rates else None for rates in kind.rates]
                fixed = (kind.name, kind.interval, *means, *[None] * (2 - len(means)))
                rows += [(*fixed, settings.prompts, contents, variance, *result) for result in results]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"rate": float, "rival_rate": float})


def seed_share(kind: Kind, variance: float, prompts: int, contents: int) -> float:
    """The share `r` at which the variance of seeds' true means is `variance` times what prompts add to a seed's mean.

    The prompts' contribution is computed for seeds that do not differ.
    """
    between = _variance(sum(_conditional_means(rates, kind.content_share) * sign for rates, sign in _signed(kind)))
    within = sum(_residual_variance(rates, kind.content_share) for rates in kind.rates)
    aim = variance * (between / contents + within / prompts)
    low, high = 0.0, 1 - 1e-9
    if aim > sum(_variance(_conditional_means(rates, high)) for rates in kind.rates):
        raise UserError(f"studies.coverage.seed_variances: {variance} is more than a {kind.name} can vary")
    for _ in range(60):
        middle = (low + high) / 2
        if sum(_variance(_conditional_means(rates, middle)) for rates in kind.rates) < aim:
            low = middle
        else:
            high = middle
    return low


def _simulate(
    kind: Kind, share: float, contents: int, settings: Coverage, generator: np.random.Generator
) -> list[tuple[int, float, float, float]]:
    """Number of seeds, coverage, its standard error and mean width, for each number of seeds."""
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
    results = []
    for seeds in settings.seeds:
        coverage = held[seeds] / replicates
        results.append((seeds, coverage, (coverage * (1 - coverage) / replicates) ** 0.5, width[seeds] / replicates))
    return results


def _draw(
    kind: Kind, share: float, numbers: NDArray[np.integer], runs: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Values or paired differences `[replicates, S, P]`. numbers: the index of each prompt's content."""
    prompts, replicates = len(numbers), runs[0]
    content_share = kind.content_share
    content = _normal(generator, replicates, int(numbers.max()) + 1)[:, None, numbers]
    values = np.zeros((*runs, prompts))
    for rates, sign in _signed(kind):
        latent = _normal(generator, *runs, prompts)
        latent *= np.float32(((1 - share) * (1 - content_share)) ** 0.5)
        latent += np.float32(((1 - share) * content_share) ** 0.5) * content
        latent += np.float32(share**0.5) * _normal(generator, *runs, 1)
        if not rates:
            values += sign * latent
        for rate in rates:
            values += (latent < np.float32(NORMAL.inv_cdf(rate))) * (sign / len(rates))
    return values


def _normal(generator: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Standard normal draws in single precision, which halves the study's time."""
    return generator.standard_normal(shape, dtype=np.float32)


def _signed(kind: Kind) -> Sequence[tuple[tuple[float, ...], int]]:
    return [(rates, -1 if index else 1) for index, rates in enumerate(kind.rates)]


def _conditional_means(rates: tuple[float, ...], share: float) -> Any:
    """Expected values, given that the part of the latent value with this share of the variance is at `X`."""
    if not rates:
        return share**0.5 * X
    return sum(_below(rate, share) for rate in rates) / len(rates)


def _residual_variance(rates: tuple[float, ...], share: float) -> float:
    """The mean variance that remains when this share of the latent variance is known."""
    if not rates:
        return 1 - share
    # A value below a threshold is below all later ones: for K indicators I_1 ≤ … ≤ I_K, (Σ I)² = Σ (2(K − i) + 1) I_i.
    squares = sum((2 * later + 1) * _below(rate, share) for later, rate in enumerate(reversed(rates)))
    return float((MASS * (squares / len(rates) ** 2 - _conditional_means(rates, share) ** 2)).sum())


def _below(rate: float, share: float) -> NDArray[np.float64]:
    threshold = NORMAL.inv_cdf(rate)
    return np.array([NORMAL.cdf((threshold - share**0.5 * x) / (1 - share) ** 0.5) for x in X.tolist()])


def _variance(values: NDArray[np.float64]) -> float:
    return float((MASS * (values - (MASS * values).sum()) ** 2).sum())
