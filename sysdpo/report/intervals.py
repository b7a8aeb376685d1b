"""95 % intervals of means over seeds and contents, crossed: every seed answers the same prompts.

A seed is a whole run, with models and preference data of its own; a content is a prompt, or several prompts about the
same thing. Both are taken as draws from many, so an interval speaks of new seeds and of new contents. With the value
`y_sc = μ + a_s + b_c + e_sc` the mean of S seeds and C contents has the variance `(C σ_a² + S σ_b² + σ_e²)/(SC)`. Its
estimate is that of a two-way analysis of variance with random effects, `(MS_seed + MS_content − MS_residual)/(SC)`
(Searle, Casella and McCulloch 1992, chapter 4), but never less than what the seeds' own means say, nor than a tenth
of what is left over. Its degrees of freedom are Satterthwaite's (1946), but never fewer than S − 1. Both floors are our
choice; `docs/statistics.md` has what the intervals cover in simulation.

Every function takes values of prompts, `[..., S, P]`, and the number of each prompt's content, `[P]`, counted from 0.
All work over the leading axes. Prompts weigh the same, and so do seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
# Of an event, among all values: it keeps a variance from being next to nothing where hardly any value differs from the
# others, and is little enough to leave all other variances as they are. Chosen by simulation.
PSEUDO_EVENT = 0.05
# Of the residual's part of a variance: seeds whose means agree by chance, to the last digit where values are 0 or 1, do
# not make a mean certain. Chosen by simulation: coverage is notably higher for it with three seeds or fewer only.
LEAST_OF_RESIDUAL = 0.1
NODES, WEIGHTS = np.polynomial.legendre.leggauss(32)

Values = NDArray[np.float64]
Contents = NDArray[np.integer]


class Interval(NamedTuple):
    """A mean and the ends of its interval, each `[...]`."""

    mean: Values
    low: Values
    high: Values


class Spread(NamedTuple):
    """A mean, the estimated variance of that mean, and the degrees of freedom of the estimate, each `[...]`."""

    mean: Values
    variance: Values
    freedom: Values


def by_content(values: Values, contents: Contents) -> Values:
    """What each content adds to each seed's mean, `u_sc = Σ_{p in c} y_sp / P`: `[..., S, C]`."""
    if _number(contents) == len(contents):
        return values[..., np.argsort(contents)] / len(contents)
    members = np.zeros((len(contents), _number(contents)))
    members[np.arange(len(contents)), contents] = 1 / len(contents)
    return values @ members


def crossed_spread(values: Values, contents: Contents) -> Spread:
    """The mean over all seeds and prompts, and how sure it is.

    A content weighs as many prompts as it has, `w_c = n_c/P`. The variance between contents is `Σ_c ū_c² / (1 − Σ w²)`,
    with `ū_c` what a content adds to the mean beyond its weight, and its degrees of freedom are `(Σ w²)²/Σ w⁴ − 1`,
    Satterthwaite's for summands whose variances are as their squared weights; with equal weights both are the
    textbook's. With one seed the variance is that between contents, with one content that between seeds: the one-sample
    t. Raises ValueError where there is but one of each.
    """
    seeds, number = values.shape[-2], _number(contents)
    if seeds * number < 2:
        raise ValueError("one value says nothing of how much others would differ")
    mean = values.mean(axis=(-2, -1))
    weights = _weights(contents)
    squares = (weights**2).sum()
    # Centred before they are added up: what is constant has no variance, not even a rounding error's.
    cells = by_content(values - mean[..., None, None], contents)
    of_seed, of_content = cells.sum(axis=-1), cells.mean(axis=-2)
    by_seed = (of_seed**2).sum(axis=-1) / (max(seeds - 1, 1) * seeds)
    if number == 1:
        return Spread(mean, by_seed, np.full_like(mean, seeds - 1))
    between = (of_content**2).sum(axis=-1) / (1 - squares)
    free = max(squares**2 / (weights**4).sum() - 1, 1.0)
    if seeds == 1:
        return Spread(mean, between, np.full_like(mean, free))
    rest = cells - weights * of_seed[..., None] - of_content[..., None, :]
    residual = (rest**2).sum(axis=(-2, -1)) / ((seeds - 1) * seeds * (1 - squares))
    variance = np.maximum(by_seed + between - residual, np.maximum(by_seed, LEAST_OF_RESIDUAL * residual))
    uncertain = by_seed**2 / (seeds - 1) + between**2 / free + residual**2 / (free * (seeds - 1))
    freedom = np.divide(variance**2, uncertain, out=np.zeros_like(mean), where=uncertain > 0)
    return Spread(mean, variance, np.maximum(freedom, seeds - 1))


def mean_interval(values: Values, contents: Contents) -> Interval:
    """The mean of any values, or of paired differences of such: mean ± t √variance."""
    mean, variance, freedom = crossed_spread(values, contents)
    half = t_quantile(freedom) * np.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def proportion_interval(values: Values, contents: Contents) -> Interval:
    """The mean of values between 0 and 1: Wilson's interval, which stays between the two and is never a point.

    Its number of observations is what a simple random sample would have needed for the same variance, as in surveys of
    clusters (Dean and Pagano 2015), and C where no value differs; its quantile is that of t.
    """
    mean, variance, freedom = crossed_spread(values, contents)
    pseudo, number = _pseudo(values, contents)
    count = (mean * (1 - mean) + pseudo) / (variance + pseudo / number)
    share = t_quantile(freedom) ** 2 / count
    middle = (mean + share / 2) / (1 + share)
    half = np.sqrt(share * mean * (1 - mean) + share**2 / 4) / (1 + share)
    return Interval(mean, np.clip(middle - half, 0, mean), np.clip(middle + half, mean, 1))


def proportion_difference_interval(values: Values, contents: Contents) -> Interval:
    """The mean of paired differences of values between 0 and 1: mean ± t √variance within −1 and 1, never a point.

    Where no pair differs from another, the variance is that of one pair won and one lost more, among C + 2 (Bonett and
    Price 2012): whether the seeds are all alike cannot be seen.
    """
    mean, variance, freedom = crossed_spread(values, contents)
    pseudo, number = _pseudo(values, contents)
    variance = np.where(variance > 0, variance + pseudo / number, 2 / (number + 2) ** 2)
    half = t_quantile(freedom) * np.sqrt(variance)
    return Interval(mean, np.maximum(mean - half, -1), np.minimum(mean + half, 1))


INTERVALS: dict[str, Callable[[Values, Contents], Interval]] = {
    "mean": mean_interval,
    "proportion": proportion_interval,
    "proportion difference": proportion_difference_interval,
}


def t_quantile(freedom: ArrayLike, confidence: float = CONFIDENCE) -> Values:
    """How many standard errors to each side hold `confidence` of Student's t; `freedom`, at least 1, need not be whole.

    Newton's method on the integral `P(|T| < t) = 2 c ∫_0^θ cos^{ν−1}, tan θ = t/√ν`, by Gauss-Legendre, from the first
    terms of its expansion around the normal quantile (Abramowitz and Stegun, 26.7.5), which lie below. Right to nine
    digits; ours, since no library that all environments have knows it.
    """
    given = np.asarray(freedom, dtype=np.float64)
    ν = given.reshape(-1)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    t = z + (z**3 + z) / (4 * ν) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * ν**2)
    lgamma = np.array([math.lgamma((each + 1) / 2) - math.lgamma(each / 2) for each in ν.tolist()])
    constant = np.exp(lgamma) / math.sqrt(math.pi)
    for _ in range(8):
        θ = np.arctan(t / np.sqrt(ν))
        heights = np.exp((ν[:, None] - 1) * np.log(np.cos(θ[:, None] * (NODES + 1) / 2)))
        # Not a matrix product: its order of additions would depend on how many are asked for.
        held = constant * θ * (heights * WEIGHTS).sum(axis=1)
        density = constant / np.sqrt(ν) * np.cos(θ) ** (ν + 1)
        t = t + (confidence - held) / (2 * density)
    return t.reshape(given.shape)


def _pseudo(values: Values, contents: Contents) -> tuple[float, float]:
    """The share of all values that `PSEUDO_EVENT` is, and how many contents of equal weight tell as much as these."""
    seeds, prompts = values.shape[-2:]
    return PSEUDO_EVENT / (seeds * prompts), float(1 / (_weights(contents) ** 2).sum())


def _number(contents: Contents) -> int:
    return int(contents.max()) + 1


def _weights(contents: Contents) -> Values:
    return np.bincount(contents) / len(contents)
