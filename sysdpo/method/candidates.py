"""Candidates for a hidden variable: what a component might have generated, by beams or by draws.

Everything here works on the log-probabilities of a `Decoder` and sees no model. Tokens are int64, log-probabilities
are in nats. A generator registers itself under the name that configurations use. Torch is imported where it is needed:
checking a configuration needs the names alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import Field, model_validator

from sysdpo.base.errors import UserError
from sysdpo.base.registry import Registry
from sysdpo.base.settings import Count, NotNegative, Positive, Settings, WrongSetting, one_of
from sysdpo.method.objectives import MARGINALS

if TYPE_CHECKING:
    from torch import Tensor

NEVER = float("-inf")

Tokens = tuple[int, ...]
Hypothesis = tuple[Tokens, float]


class Decoder(Protocol):
    """Generation from a component, step by step, for a batch of rows; it starts with one row for each condition.

    ends: the token ids that end a value.
    max_length: a value also ends after this many tokens, its end token included.
    """

    ends: frozenset[int]
    max_length: int

    def start(self) -> Tensor:
        """`log p(first token | condition)`: float32 `[conditions, vocabulary]`."""
        ...

    def advance(self, rows: Tensor, tokens: Tensor) -> Tensor:
        """Append a token to each of these rows, which become the rows of the next step.

        rows: numbers of the present rows, int64 `[m]`, repeats allowed. tokens: one for each, int64 `[m]`.

        Returns `log p(next token | condition, tokens so far)`: float32 `[m, vocabulary]`.
        """
        ...

    def value(self, tokens: Sequence[int]) -> Any:
        """The value that these tokens, end token included, stand for."""
        ...


GENERATORS: Registry[Generator] = Registry("candidate generator")
"""Generators of candidates by name."""


@dataclass(frozen=True)
class Generator:
    """Where candidates come from.

    find: a function `(decoder, settings, seeds)` that returns for each condition up to `settings.count` values, each as
    its tokens and its log-probability under the distribution that it was generated from.
    draws: True if candidates are random draws from a condition's seed, repeats included; False if they are distinct and
    use no seed, as beams are.
    """

    find: Callable[[Decoder, CandidateSettings, Sequence[int]], list[list[Hypothesis]]]
    draws: bool


def _known_generators(schema: dict[str, Any]) -> None:
    schema["examples"] = list(GENERATORS)  # they register themselves below


class CandidateSettings(Settings):
    """How the sum over hidden intermediates is approximated (Wang et al., arXiv 2502.17721, SysDPO-Sampling)."""

    estimator: Annotated[str, Field(examples=list(MARGINALS))] = "truncated"
    """`truncated`, the paper's sum of `p(y|x) p(z|x,y)` over distinct candidates, a lower bound of the marginal;
    `importance`, the mean of `p(y|x) p(z|x,y) / g(y|x)` over draws from `g`, unbiased for the marginal but not for its
    logarithm; `single`, `p(z|x,y)` at one ancestral draw."""
    count: Count = 4
    """The number of candidates for each prompt."""
    generator: Annotated[str, Field(json_schema_extra=_known_generators)] = "diverse_beam"
    """`diverse_beam` (Vijayakumar et al., arXiv 1610.02424), `beam`, `ancestral` (draws at `temperature`) or `nucleus`
    (draws at `temperature` from the smallest set of tokens whose probability reaches `top_p`)."""
    groups: Count | None = None
    """Groups of diverse beams, a divisor of `count`; null is a group for each candidate."""
    diversity: NotNegative = 0.5
    """What a token costs a beam for each earlier group that took it at the same step, in nats."""
    length_penalty: Annotated[float, Field(ge=-100, le=100)] = 0.0
    """Finished beams are ranked by `log p / length^length_penalty`; 0 ranks by probability."""
    temperature: Positive = 1.0
    """Temperature of draws."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """The probability that a nucleus holds."""
    refresh: Count = 4
    """Updates between two generations of candidates; each comes from the policy as it is then."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        one_of("estimator", self.estimator, list(MARGINALS))
        one_of("generator", self.generator, list(GENERATORS))
        if self.groups is not None and self.count % self.groups:
            raise WrongSetting(("groups",), f"{self.groups} should be a divisor of count, {self.count}")
        if self.estimator != "truncated" and self.generator != "ancestral":
            raise WrongSetting(
                ("generator",),
                f"'{self.generator}' should be 'ancestral' where the estimator is '{self.estimator}', which divides "
                "by the probability of a draw that any intermediate can be",
            )
        if self.estimator == "single" and (self.count != 1 or self.temperature != 1):
            raise WrongSetting(("count",), f"{self.count} should be 1, at temperature 1, for the estimator 'single'")
        return self


@dataclass(frozen=True)
class Candidate:
    """A value, and its log-probability under the distribution that it was generated from, in nats.

    For beams that is the component's own `log p(value | condition)`, for draws the proposal's (at `temperature`, or cut
    to its nucleus).
    """

    value: Any
    log_prob: float


def propose(decoder: Decoder, settings: CandidateSettings, *, seeds: Sequence[int]) -> list[list[Candidate]]:
    """Up to `settings.count` candidates for each condition, by `settings.generator`.

    Beams are distinct, best first by `log p / length^length_penalty`, and use no seed. Draws stand in the order drawn,
    those of a condition depend on its own seed alone, and `temperature` applies to both kinds of draws. Repeats stay
    unless `settings.estimator` is `truncated`, whose sum is over distinct values.

    seeds: a number for each condition.

    Raises `UserError` if a generator finds none or too many, or one whose log-probability is not finite.
    """
    generator = GENERATORS[settings.generator]
    found = generator.find(decoder, settings, seeds)
    sizes = [len(hypotheses) for hypotheses in found]
    if len(sizes) != len(seeds) or not all(1 <= size <= settings.count for size in sizes):
        raise UserError(
            f"candidates.generator: '{settings.generator}' should find 1 to {settings.count} values for each of "
            f"{len(seeds)} conditions; it found {sizes}"
        )
    if wrong := [log_prob for hypotheses in found for _, log_prob in hypotheses if not math.isfinite(log_prob)]:
        raise UserError(
            f"candidates.generator: '{settings.generator}' should give each value a finite log-probability, not "
            f"{wrong[0]}"
        )
    if generator.draws and settings.estimator == "truncated":
        found = [list(dict(hypotheses).items()) for hypotheses in found]
    return [[Candidate(decoder.value(tokens), log_prob) for tokens, log_prob in hypotheses] for hypotheses in found]


def beam_search(
    decoder: Decoder, settings: CandidateSettings, *, groups: int = 1, diversity: float = 0.0
) -> list[list[Hypothesis]]:
    """Diverse beam search (Vijayakumar et al., arXiv 1610.02424, algorithm 1) with Hamming diversity.

    At each step the groups choose in order; a token costs a beam `diversity` nats for every beam of an earlier group of
    the same condition that took it at this step and goes on. Penalties add up along a beam, as the paper's augmented
    scores do, but only decide which beams are kept: finished values are ranked by `log p / length^length_penalty`.
    Within a group the rules are those of transformers' beam search with `early_stopping=False`. If groups finish the
    same values, the best of the other values that any group could have finished fill up the number (our choice).

    Returns for each condition its values as tokens with their log-probabilities, best first.
    """
    import torch

    log_probs = decoder.start()
    conditions, vocabulary = log_probs.shape
    device = log_probs.device
    ends = torch.tensor(sorted(decoder.ends), dtype=torch.int64, device=device)
    finished = [_Finished(groups, settings, vocabulary) for _ in range(conditions)]

    unfinished, shape = finished, (conditions, groups, settings.count // groups)
    log_probs = log_probs[:, None, None].expand(*shape, vocabulary)
    rows = torch.arange(conditions, device=device)[:, None, None].expand(shape)
    tokens = torch.empty((*shape, 0), dtype=torch.int64, device=device)
    totals = log_probs.new_full(shape, NEVER)
    totals[..., 0] = 0.0  # a group starts from one beam, or all its beams would stay alike
    scores = totals
    for step in range(decoder.max_length):
        last = step + 1 == decoder.max_length
        best, best_scores, onward, onward_scores = _choose(scores, log_probs, ends, diversity, last)
        ended = (torch.isin(best % vocabulary, ends) | last) & (best_scores > NEVER)
        best_totals = _totals(totals, log_probs, best).masked_fill(~ended, NEVER)
        onward_totals = _totals(totals, log_probs, onward).masked_fill(onward_scores == NEVER, NEVER)
        spare = _spare(totals, log_probs, ends, settings.count if last else None)
        spare_totals = _totals(totals, log_probs, spare)
        columns = (tokens, best, best_totals, spare, spare_totals, onward_totals.amax(-1))
        for condition, *row in zip(unfinished, *(column.tolist() for column in columns), strict=True):
            condition.add(*row)
        going = [index for index, condition in enumerate(unfinished) if not condition.done]
        if last or not going:
            break

        unfinished = [unfinished[index] for index in going]
        kept = torch.tensor(going, device=device)
        totals, scores = onward_totals[kept], onward_scores[kept]
        parents, taken = onward[kept] // vocabulary, onward[kept] % vocabulary
        tokens = torch.cat([tokens[kept].take_along_dim(parents[..., None], 2), taken[..., None]], -1)
        log_probs = decoder.advance(rows[kept].gather(2, parents).flatten(), taken.flatten())
        log_probs = log_probs.view(*taken.shape, vocabulary)
        rows = torch.arange(taken.numel(), device=device).view(taken.shape)
    return [condition.best() for condition in finished]


def _choose(
    scores: Tensor, log_probs: Tensor, ends: Tensor, diversity: float, last: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best continuations of each group, and the best that do not end, with their scores; `[b, groups, width]`.

    A continuation is the number `beam · vocabulary + token`; scores have the diversity penalty in them.

    scores: of the beams, `[b, groups, width]`. log_probs: `[b, groups, width, vocabulary]`. last: whether this is the
    last step, at which every value ends.
    """
    import torch

    groups, width, vocabulary = log_probs.shape[1:]
    crowd = torch.zeros_like(log_probs[:, 0, 0])  # [b, vocabulary]: how many beams took a token at this step
    chosen = []
    for group in range(groups):
        score = scores[:, group, :, None] + log_probs[:, group] - diversity * crowd[:, None]
        # So many that `width` of them go on even if each beam could end with every end token.
        most = width if last else min(width * (1 + len(ends)), width * vocabulary)
        best_scores, best = score.flatten(1).topk(most)
        onward_scores, order = best_scores.masked_fill(torch.isin(best % vocabulary, ends), NEVER).topk(width)
        onward = best.gather(1, order)
        crowd.scatter_add_(1, onward % vocabulary, (onward_scores > NEVER).to(crowd.dtype))
        chosen.append((best[:, :width], best_scores[:, :width], onward, onward_scores))
    best, best_scores, onward, onward_scores = (torch.stack(values, 1) for values in zip(*chosen, strict=True))
    return best, best_scores, onward, onward_scores


def _totals(totals: Tensor, log_probs: Tensor, continuations: Tensor) -> Tensor:
    """Log-probabilities of continuations, `[b, groups, n]`, of beams with these `totals`, `[b, groups, width]`."""
    return totals.gather(2, continuations // log_probs.shape[-1]) + log_probs.flatten(2).gather(2, continuations)


def _spare(totals: Tensor, log_probs: Tensor, ends: Tensor, most: int | None) -> Tensor:
    """Continuations that could finish a value now: those by an end token, or the best `most` of all if it is given."""
    import torch

    width, vocabulary = log_probs.shape[2:]
    if most is None:
        continuations = torch.arange(width, device=ends.device)[:, None] * vocabulary + ends
        return continuations.flatten().expand(*totals.shape[:2], -1)
    return (totals[..., None] + log_probs).flatten(2).topk(min(most, width * vocabulary)).indices


class _Finished:
    """The values that one condition's groups have finished, and whether better ones can come."""

    def __init__(self, groups: int, settings: CandidateSettings, vocabulary: int):
        self.count, self.width = settings.count, settings.count // groups
        self.length_penalty, self.vocabulary = settings.length_penalty, vocabulary
        self.log_probs: dict[Tokens, float] = {}  # of all values that anyone came by
        self.groups: list[list[Tokens]] = [[] for _ in range(groups)]  # the best of each, `width` at most
        self.stopped = [False] * groups
        self.done = False

    def add(
        self,
        beams: list[list[list[int]]],
        best: list[list[int]],
        best_totals: list[list[float]],
        spare: list[list[int]],
        spare_totals: list[list[float]],
        onward: list[float],
    ) -> None:
        """Take in one step of every group.

        beams: their tokens so far. best, spare: continuations that finish a value, of the best beams and of all, with
        their log-probabilities. onward: the best log-probability among the beams that go on.
        """
        length = len(beams[0][0]) + 1
        for group, prefixes in enumerate(beams):
            self._values(prefixes, spare[group], spare_totals[group])
            if self.stopped[group]:
                continue
            values = self.groups[group] + self._values(prefixes, best[group], best_totals[group])
            self.groups[group] = values = sorted(values, key=self._rank, reverse=True)[: self.width]
            hope = onward[group] / length**self.length_penalty
            self.stopped[group] = len(values) == self.width and hope <= self._rank(values[-1])
        enough = all(self.stopped) and len(self.log_probs) >= self.count
        self.done = enough or max(onward) == NEVER

    def _values(self, prefixes: list[list[int]], continuations: list[int], totals: list[float]) -> list[Tokens]:
        found = []
        for continuation, total in zip(continuations, totals, strict=True):
            if total > NEVER:
                beam, token = divmod(continuation, self.vocabulary)
                tokens = (*prefixes[beam], token)
                self.log_probs.setdefault(tokens, total)
                found.append(tokens)
        return found

    def _rank(self, tokens: Tokens) -> float:
        return self.log_probs[tokens] / len(tokens) ** self.length_penalty

    def best(self) -> list[Hypothesis]:
        """The values that the groups finished, filled up to `count` distinct ones, best first."""
        found = {tokens for values in self.groups for tokens in values}
        others = sorted(self.log_probs.keys() - found, key=lambda tokens: (-self._rank(tokens), tokens))
        distinct = [*found, *others[: self.count - len(found)]]
        ranked = sorted(distinct, key=lambda tokens: (-self._rank(tokens), tokens))
        return [(tokens, self.log_probs[tokens]) for tokens in ranked]


def draw(
    decoder: Decoder, settings: CandidateSettings, seeds: Sequence[int], *, top_p: float = 1.0
) -> list[list[Hypothesis]]:
    """`settings.count` independent draws for each condition, at `settings.temperature`.

    The cumulative distribution is inverted at uniform numbers that depend on the condition's seed alone. With `top_p`
    below 1 each token is drawn from its nucleus. Returns tokens and log-probabilities under what was drawn from.
    """
    import numpy as np
    import torch

    from sysdpo.base.seeds import numpy_generator

    count = settings.count
    log_probs = decoder.start()
    device = log_probs.device
    numbers = [numpy_generator("candidate", seed).random((decoder.max_length, count)) for seed in seeds]
    uniform = torch.from_numpy(np.concatenate(numbers, 1)).to(device)  # [max_length, conditions · count]
    ends = torch.tensor(sorted(decoder.ends), dtype=torch.int64, device=device)
    rows = torch.arange(len(seeds), device=device).repeat_interleave(count)
    log_probs = log_probs[rows]
    draws = torch.arange(len(rows), device=device)  # that have not ended
    tokens: list[list[int]] = [[] for _ in rows]
    totals = torch.zeros(len(rows), dtype=torch.float64, device=device)
    for step in range(decoder.max_length):
        proposal = _proposal(log_probs, settings.temperature, top_p)
        taken = _invert(proposal.exp(), uniform[step, draws])
        totals[draws] += proposal.gather(1, taken[:, None])[:, 0]
        for draw, token in zip(draws.tolist(), taken.tolist(), strict=True):
            tokens[draw].append(token)
        going = ~torch.isin(taken, ends)
        if step + 1 == decoder.max_length or not going.any():
            break
        draws = draws[going]
        log_probs = decoder.advance(rows[going], taken[going])
        rows = torch.arange(len(draws), device=device)
    found = list(zip(map(tuple, tokens), totals.tolist(), strict=True))
    return [found[row * count : (row + 1) * count] for row in range(len(seeds))]


def _proposal(log_probs: Tensor, temperature: float, top_p: float) -> Tensor:
    """Log-probabilities that tokens are drawn with, tempered, then cut to the nucleus: float64 `[m, vocabulary]`.

    The nucleus is the smallest set of tokens whose probability reaches `top_p` (Holtzman et al., arXiv 1904.09751).
    """
    import torch

    tempered = (log_probs.double() / temperature).log_softmax(-1)
    if top_p == 1:
        return tempered
    probabilities, order = tempered.exp().sort(stable=True, dim=-1, descending=True)
    outside = (probabilities.cumsum(-1) - probabilities) >= top_p
    cut = torch.zeros_like(outside).scatter(-1, order, outside)
    return tempered.masked_fill(cut, NEVER).log_softmax(-1)


def _invert(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """The token at which each row's cumulative probability first exceeds its number in [0, 1): int64 `[m]`."""
    import torch

    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1]
    # Rounding must not reach the total: past it lie only tokens of probability 0, or none.
    below = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, below[:, None], right=True)[:, 0]


def _diverse_beam(decoder: Decoder, settings: CandidateSettings, seeds: Sequence[int]) -> list[list[Hypothesis]]:
    return beam_search(decoder, settings, groups=settings.groups or settings.count, diversity=settings.diversity)


def _beam(decoder: Decoder, settings: CandidateSettings, seeds: Sequence[int]) -> list[list[Hypothesis]]:
    return beam_search(decoder, settings)


def _nucleus(decoder: Decoder, settings: CandidateSettings, seeds: Sequence[int]) -> list[list[Hypothesis]]:
    return draw(decoder, settings, seeds, top_p=settings.top_p)


GENERATORS.register("diverse_beam")(Generator(_diverse_beam, draws=False))
GENERATORS.register("beam")(Generator(_beam, draws=False))
GENERATORS.register("ancestral")(Generator(draw, draws=True))
GENERATORS.register("nucleus")(Generator(_nucleus, draws=True))
