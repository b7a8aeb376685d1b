"""95 % intervals of means over seeds and contents, crossed: every seed answers the same prompts.

A seed is a whole run, with its own models and preference data; a content is a prompt, or several prompts about the same
thing. Both are treated as random draws, so an interval generalises to new seeds and to new contents. With the value
`y_sc = μ + a_s + b_c + e_sc` the mean of S seeds and C contents has the variance `(C σ_a² + S σ_b² + σ_e²)/(SC)`. Its
estimate is that of a two-way analysis of variance with random effects, `(MS_seed + MS_content − MS_residual)/(SC)`
(Searle, Casella and McCulloch 1992, chapter 4), but never less than the variance between the seeds' means alone, nor
than a tenth of the residual's. Its degrees of freedom are Satterthwaite's (1946), but never fewer than S − 1. Both
floors are our choice; `docs/statistics.md` has the intervals' coverage in simulation.

Every function takes values of prompts, `[..., S, P]`, and the index of each prompt's content, `[P]`, from 0 on, and
works over the leading axes. All prompts have equal weights, and so do all seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
# A fraction of an event, added to all values: it keeps a variance from nearly vanishing where hardly any value differs,
# and is too small to matter elsewhere. Chosen by simulation.
PSEUDO_EVENT = 0.05
# The least share of the residual's variance: seeds whose means agree by chance, for values of 0 or 1 even to the last
# digit, do not make a mean certain. Chosen by simulation: it raises coverage notably with up to three seeds.
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
    """Each content's contribution to each seed's mean, `u_sc = Σ_{p in c} y_sp / P`: `[..., S, C]`."""
    if _number(contents) == len(contents):
        return values[..., np.argsort(contents)] / len(contents)
    members = np.zeros((len(contents), _number(contents)))
    members[np.arange(len(contents)), contents] = 1 / len(contents)
    return values @ members


def crossed_spread(values: Values, contents: Contents) -> Spread:
    """The mean over all seeds and prompts, and its variance.

    A content is weighted by its number of prompts, `w_c = n_c/P`. The variance between contents is
    `Σ_c ū_c² / (1 − Σ w²)`, with `ū_c` the content's contribution to the mean beyond its weight, and its degrees of
    freedom are `(Σ w²)²/Σ w⁴ − 1`, Satterthwaite's for summands with variances proportional to their squared weights;
    equal weights give the textbook's formulas. With one seed the variance is that between contents, with one content
    that between seeds: the one-sample t. Raises ValueError if there is only one of each.
    """
    seeds, number = values.shape[-2], _number(contents)
    if seeds * number < 2:
        raise ValueError("one value says nothing of how much others would differ")
    mean = values.mean(axis=(-2, -1))
    weights = _weights(contents)
    squares = (weights**2).sum()
    # Centred first, so that constant values have exactly no variance.
    cells = by_content(values - mean[..., None, None], contents)
    of_seed, of_content = cells.sum(axis=-1), cells.mean(axis=-2)
    by_seed = (of_seed**2).sum(axis=-1) / (max(seeds - 1, 1) * seeds)
    if number == 1:
        return Spread(mean, by_seed, np.full_like(mean, seeds - 1))
    between = (of_content**2).sum(axis=-1) / (1 - squares)
    content_df = max(squares**2 / (weights**4).sum() - 1, 1.0)
    if seeds == 1:
        return Spread(mean, between, np.full_like(mean, content_df))
    residuals = cells - weights * of_seed[..., None] - of_content[..., None, :]
    residual = (residuals**2).sum(axis=(-2, -1)) / ((seeds - 1) * seeds * (1 - squares))
    variance = np.maximum(by_seed + between - residual, np.maximum(by_seed, LEAST_OF_RESIDUAL * residual))
    uncertainty = by_seed**2 / (seeds - 1) + between**2 / content_df + residual**2 / (content_df * (seeds - 1))
    freedom = np.divide(variance**2, uncertainty, out=np.zeros_like(mean), where=uncertainty > 0)
    return Spread(mean, variance, np.maximum(freedom, seeds - 1))


def mean_interval(values: Values, contents: Contents) -> Interval:
    """The interval for a mean of any values, or of their paired differences: mean ± t √variance."""
    mean, variance, freedom = crossed_spread(values, contents)
    half = t_quantile(freedom) * np.sqrt(variance)
    return Interval(mean, mean - half, mean + half)


def proportion_interval(values: Values, contents: Contents) -> Interval:
    """Wilson's interval for a mean of values between 0 and 1; it stays between the two and is never a point.

    Its number of observations is that of a simple random sample with the same variance, as in cluster surveys (Dean and
    Pagano 2015), and C if all values are equal; its quantile is that of t.
    """
    mean, variance, freedom = crossed_spread(values, contents)
    pseudo, number = _pseudo(values, contents)
    count = (mean * (1 - mean) + pseudo) / (variance + pseudo / number)
    share = t_quantile(freedom) ** 2 / count
    middle = (mean + share / 2) / (1 + share)
    half = np.sqrt(share * mean * (1 - mean) + share**2 / 4) / (1 + share)
    return Interval(mean, np.clip(middle - half, 0, mean), np.clip(middle + half, mean, 1))


def proportion_difference_interval(values: Values, contents: Contents) -> Interval:
    """The interval for a mean of paired differences of values between 0 and 1: mean ± t √variance, within −1 and 1.

    It is never a point: if all differences are equal, the variance is that after adding one pair won and one lost, of
    C + 2 (Bonett and Price 2012), since it is then unknown whether seeds differ.
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
    """The two-sided quantile of Student's t at `confidence`, for real `freedom` of at least 1.

    Newton's method on the integral `P(|T| < t) = 2 c ∫_0^θ cos^{ν−1}, tan θ = t/√ν`, by Gauss-Legendre, started below
    the solution from the first terms of its expansion around the normal quantile (Abramowitz and Stegun, 26.7.5).
    Correct to nine digits; implemented here because no library in all environments has it.
    """
    freedoms = np.asarray(freedom, dtype=np.float64)
    ν = freedoms.reshape(-1)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    t = z + (z**3 + z) / (4 * ν) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * ν**2)
    lgamma = np.array([math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) for degrees in ν.tolist()])
    constant = np.exp(lgamma) / math.sqrt(math.pi)
    for _ in range(8):
        θ = np.arctan(t / np.sqrt(ν))
        heights = np.exp((ν[:, None] - 1) * np.log(np.cos(θ[:, None] * (NODES + 1) / 2)))
        # Not a matrix product, in which the order of additions depends on the number of values.
        probability = constant * θ * (heights * WEIGHTS).sum(axis=1)
        density = constant / np.sqrt(ν) * np.cos(θ) ** (ν + 1)
        t = t + (confidence - probability) / (2 * density)
    return t.reshape(freedoms.shape)


def _pseudo(values: Values, contents: Contents) -> tuple[float, float]:
    """`PSEUDO_EVENT` as a share of all values, and the effective number of contents."""
    seeds, prompts = values.shape[-2:]
    return PSEUDO_EVENT / (seeds * prompts), float(1 / (_weights(contents) ** 2).sum())


def _number(contents: Contents) -> int:
    return int(contents.max()) + 1


def _weights(contents: Contents) -> Values:
    return np.bincount(contents) / len(contents)
