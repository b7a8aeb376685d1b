"""Log-probabilities of a batch of preference pairs, with intermediates known, or hidden and summed over."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import numpy_generator
from sysdpo.method.candidates import GENERATORS, CandidateSettings, propose
from sysdpo.method.component import Batched, Decodable, Deterministic, LogProbs, SampleOnly
from sysdpo.method.objectives import MARGINALS, effective_sample_size, posterior
from sysdpo.method.offer import INSTEAD
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import Node, System, Trajectories, conditions_of
from sysdpo.method.values import Completion


@dataclass(frozen=True)
class BatchLogProbs:
    """Log-probabilities of `2·pairs` rows, the chosen ones first; all tensors are `[2·pairs]` if nothing else is said.

    components: for each trained component, summed over its nodes; with hidden intermediates the mean under their
    posterior.
    marginal: the estimate of `log p(z|x)` if intermediates are hidden, else None.
    measures: further values for the log, of any shape.
    lengths: the number of tokens that each component generated, at least 1, if all variables are known.
    chosen: `log p_k` of the chosen rows, `[pairs]`, if they differ from those of `components`.
    """

    components: dict[str, LogProbs]
    marginal: LogProbs | None = None
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    lengths: Mapping[str, Tensor] = field(default_factory=dict)
    chosen: Mapping[str, Tensor] | None = None


class Intermediates(Protocol):
    """How a training treats the variables between inputs and outputs: as known, summed over, or both."""

    refresh: int
    """How many batches one call of `prepare` serves."""

    copies: int
    """The most rows that the models get for one row of trajectories."""

    def variables(self, columns: Iterable[str]) -> list[str]:
        """The columns of the trajectories that it may see."""
        ...

    def prepare(self, inputs: Trajectories, keys: Sequence[str], *, seeds: Sequence[int]) -> None:
        """Prepare for rows with these inputs, by generating candidates for example.

        keys: a name for each row; rows with the same one have the same inputs. seeds: a number for each row.
        """
        ...

    def log_probs(
        self, trajectories: Trajectories, keys: Sequence[str], *, draw: Sequence[int], components: Sequence[str]
    ) -> BatchLogProbs:
        """The log-probabilities of these rows.

        keys: of each row, as given to `prepare`. draw, components: as in `System.log_probs`.
        """
        ...


class KnownIntermediates:
    """Every variable of a trajectory is known (SysDPO-Direct and per-component DPO)."""

    refresh = copies = 1

    def __init__(self, system: System):
        self.system = system

    def variables(self, columns: Iterable[str]) -> list[str]:
        """All of them."""
        return list(columns)

    def prepare(self, inputs: Trajectories, keys: Sequence[str], *, seeds: Sequence[int]) -> None:
        """Nothing to prepare."""

    def log_probs(
        self, trajectories: Trajectories, keys: Sequence[str], *, draw: Sequence[int], components: Sequence[str]
    ) -> BatchLogProbs:
        """The trajectories' own log-probabilities."""
        log_probs = self.system.log_probs(trajectories, draw=draw, components=components)
        lengths = {name: self._lengths(name, trajectories).to(part.policy) for name, part in log_probs.items()}
        return BatchLogProbs(log_probs, lengths=lengths)

    def _lengths(self, name: str, trajectories: Trajectories) -> Tensor:
        columns = [trajectories[node.name] for node in self.system.nodes if node.component == name]
        tokens = [[len(value.tokens) if isinstance(value, Completion) else 0 for value in column] for column in columns]
        return torch.tensor(tokens).sum(0).clamp_min(1)


@dataclass(frozen=True)
class Assignment:
    """A value for every hidden variable, and the log-probability of all under the distribution that generated them."""

    values: Mapping[str, Any]
    log_prob: float


class HiddenIntermediates:
    """Only inputs and outputs are known; the rest is summed over candidates (SysDPO-Sampling, arXiv 2502.17721).

    `R(z) = log Σ_{y∈Y} p_θ(y|x) p_θ(z|x,y) − log Σ_{y∈Y} p_ref(y|x) p_ref(z|x,y)` with the same candidates `Y` of a
    prompt for policy and reference, chosen and rejected. Functions of the outputs, a parser or a vote, add nothing.

    Raises `UserError` if nothing is hidden, if an output is deterministic, if a hidden variable depends on an output,
    if no output depends on it, or if its component is not `Decodable`.
    """

    def __init__(self, system: System, settings: CandidateSettings):
        self.system = system
        self.settings = settings
        self.refresh, self.copies = settings.refresh, settings.count
        before = system.ancestors(system.outputs)
        self.hidden = [node for node in system.nodes if node.name in before and node.name not in system.outputs]
        self.random = [name for name, part in system.components.items() if not isinstance(part, Deterministic)]
        self.sets: dict[str, list[Assignment]] = {}
        if not any(self._is_random(node) for node in self.hidden):
            raise UserError("objective: 'sampling' sums over hidden variables, and this system has none; use 'direct'")
        for node in system.nodes:
            if node.name in system.outputs and isinstance(system.components[node.component], SampleOnly):
                raise UserError(
                    f"objective: 'sampling' needs a likelihood of the output '{node.name}', and the component "
                    f"'{node.component}' can only be sampled; use 'direct'"
                )
            if node.name in system.outputs and not self._is_random(node):
                raise UserError(
                    f"objective: 'sampling' needs a likelihood of the output '{node.name}', which the component "
                    f"'{node.component}' computes from its parents; make a generated variable the output"
                )
            if self._is_random(node) and node.name not in (*before, *system.outputs):
                raise UserError(
                    f"objective: 'sampling' sums over what the outputs {list(system.outputs)} are generated from, and "
                    f"'{node.name}' is not; make it an output or leave it out"
                )
        for node in self.hidden:
            if known := sorted(set(system.outputs) & {*node.parents, *system.ancestors([node.name])}):
                raise UserError(
                    f"objective: 'sampling' draws '{node.name}' before any output, but it is generated from the output "
                    f"'{known[0]}'; use 'direct'"
                )
            component = system.components[node.component]
            if isinstance(component, SampleOnly):
                if settings.estimator == "truncated":
                    raise UserError(
                        f"candidates.estimator: 'truncated' needs the probability of '{node.name}', and the component "
                        f"'{node.component}' can only be sampled; use 'importance', or 'direct'"
                    )
            elif self._is_random(node) and not isinstance(component, Decodable):
                raise UserError(
                    f"objective: 'sampling' needs candidates for '{node.name}', which the component "
                    f"'{node.component}' cannot decode step by step; use 'direct'"
                )

    def _is_random(self, node: Node) -> bool:
        return node.component in self.random

    def variables(self, columns: Iterable[str]) -> list[str]:
        """Inputs and outputs alone."""
        return [name for name in columns if name in (*self.system.inputs, *self.system.outputs)]

    @torch.no_grad()
    def prepare(self, inputs: Trajectories, keys: Sequence[str], *, seeds: Sequence[int]) -> None:
        """Generate candidates from the present policy for each distinct key."""
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        rows = {name: [inputs[name][row] for row in first.values()] for name in self.system.inputs}
        self.sets = dict(zip(first, self.propose(rows, seeds=[seeds[row] for row in first.values()]), strict=True))

    def propose(self, inputs: Trajectories, *, seeds: Sequence[int]) -> list[list[Assignment]]:
        """Up to `settings.count` assignments of the hidden variables for each row of `inputs`.

        With beams the likeliest assignments are kept at every node and stand first; draws are ancestral through the
        graph.
        """
        drawn = GENERATORS[self.settings.generator].draws
        copies = self.settings.count if drawn else 1
        rows = [row for row in range(len(seeds)) for _ in range(copies)]
        values = [{name: inputs[name][row] for name in self.system.inputs} for row in rows]
        partial = [(row, Assignment(known, 0.0)) for row, known in zip(rows, values, strict=True)]
        for position, node in enumerate(self.hidden):
            starts = {row: index for index, (row, _) in reversed(list(enumerate(partial)))}
            own = [_mix(seeds[row], position, index - starts[row]) for index, (row, _) in enumerate(partial)]
            partial = self._extend(node, partial, own)
            if not drawn:
                partial = _likeliest(partial, self.settings.count)
        sets: list[list[Assignment]] = [[] for _ in seeds]
        for row, assignment in partial:
            sets[row].append(assignment)
        return [self._distinct(assignments) for assignments in sets]

    def _extend(
        self, node: Node, partial: list[tuple[int, Assignment]], seeds: list[int]
    ) -> list[tuple[int, Assignment]]:
        component = self.system.components[node.component]
        columns = {name: [assignment.values[name] for _, assignment in partial] for name in node.parents}
        conditions = conditions_of(node, columns)
        if isinstance(component, (Deterministic, SampleOnly)):
            # A factor of 1: computed, or as likely as it was drawn, so that the two cancel.
            found = [[(value, 0.0)] for value in component.sample(conditions, seeds=seeds)]
        else:
            assert isinstance(component, Decodable)
            settings = self.settings
            if GENERATORS[settings.generator].draws:
                settings = settings.changed(count=1, groups=None)
            # As many beams at once as the component generates values at once.
            together = component.batch_size if isinstance(component, Batched) else len(conditions)
            size = max(1, together // settings.count)
            proposed = []
            for start in range(0, len(conditions), size):
                decoder = component.decoder(conditions[start : start + size])
                proposed += propose(decoder, settings, seeds=seeds[start : start + size])
            found = [[(candidate.value, candidate.log_prob) for candidate in row] for row in proposed]
        return [
            (row, Assignment({**assignment.values, node.name: value}, assignment.log_prob + log_prob))
            for (row, assignment), values in zip(partial, found, strict=True)
            for value, log_prob in values
        ]

    def _distinct(self, assignments: list[Assignment]) -> list[Assignment]:
        """The candidates without repeats for `truncated`, whose sum is over distinct ones; others need the repeats."""
        if self.settings.estimator != "truncated":
            return assignments
        # What is computed from the others, and may be a list, tells no two apart.
        names = [node.name for node in self.hidden if self._is_random(node)]
        distinct = {tuple(found.values[name] for name in names): found for found in reversed(assignments)}
        return list(reversed(distinct.values()))

    def log_probs(
        self, trajectories: Trajectories, keys: Sequence[str], *, draw: Sequence[int], components: Sequence[str]
    ) -> BatchLogProbs:
        """The marginals, estimated with the candidates that were prepared last."""
        sets = [self.sets[key] for key in keys]
        rows = [row for row, assignments in enumerate(sets) for _ in assignments]
        names = (*self.system.inputs, *self.system.outputs)
        flat = {name: [trajectories[name][row] for row in rows] for name in names}
        for node in self.hidden:
            flat[node.name] = [assignment.values[node.name] for assignments in sets for assignment in assignments]
        log_probs = self.system.log_probs(flat, draw=[draw[row] for row in rows], components=self.random)
        index = _candidate_index([len(assignments) for assignments in sets])
        by_component = {
            name: LogProbs(*(_spread(values, index) for values in part)) for name, part in log_probs.items()
        }
        joint = LogProbs(*(sum(values) for values in zip(*by_component.values(), strict=True)))
        exists = (index >= 0).to(joint.policy.device)
        joint = LogProbs(*(values.masked_fill(~exists, -torch.inf) for values in joint))
        proposal = torch.tensor([assignment.log_prob for assignments in sets for assignment in assignments])
        proposal = _spread(proposal, index).to(joint.policy)
        estimate = MARGINALS[self.settings.estimator]
        marginal = LogProbs(*(estimate(values, proposal) for values in joint))
        corrected = joint.policy.detach() - (0 if self.settings.estimator == "truncated" else proposal)
        weights = posterior(corrected)
        expected = {
            name: LogProbs(*((weights * values).sum(-1) for values in by_component[name])) for name in components
        }
        measures = {
            "effective_sample_size": effective_sample_size(weights),
            "candidates": exists.sum(-1).float(),
            "likeliest_candidate": weights.max(-1).values,
        }
        if self.settings.estimator == "truncated":
            measures["candidate_mass"] = proposal.exp().mul(exists).sum(-1)
        return BatchLogProbs(expected, marginal, measures)


class KnownAndHidden:
    """Margins from known intermediates, and the likelihood of the chosen with the intermediates summed over."""

    def __init__(self, system: System, settings: CandidateSettings):
        self.known, self.hidden = KnownIntermediates(system), HiddenIntermediates(system, settings)
        self.refresh, self.copies = self.hidden.refresh, self.hidden.copies

    def variables(self, columns: Iterable[str]) -> list[str]:
        """All of them."""
        return self.known.variables(columns)

    def prepare(self, inputs: Trajectories, keys: Sequence[str], *, seeds: Sequence[int]) -> None:
        """See `HiddenIntermediates`."""
        self.hidden.prepare(inputs, keys, seeds=seeds)

    def log_probs(
        self, trajectories: Trajectories, keys: Sequence[str], *, draw: Sequence[int], components: Sequence[str]
    ) -> BatchLogProbs:
        """As `KnownIntermediates`, with likelihood and measures of the chosen rows from `HiddenIntermediates`."""
        known = self.known.log_probs(trajectories, keys, draw=draw, components=components)
        half = slice(len(keys) // 2)
        chosen = {name: column[half] for name, column in trajectories.items()}
        hidden = self.hidden.log_probs(chosen, keys[half], draw=draw[half], components=components)
        likelihood = {name: part.policy for name, part in hidden.components.items()}
        return replace(known, chosen=likelihood, measures=hidden.measures)


def intermediates_of(system: System, settings: MethodSettings) -> Intermediates:
    """How a method with these settings treats the intermediates."""
    if settings.intermediates == {"known"}:
        return KnownIntermediates(system)
    kind = HiddenIntermediates if settings.intermediates == {"hidden"} else KnownAndHidden
    return kind(system, settings.candidates)


def check_seen(columns: Iterable[str], system: System, settings: MethodSettings, where: str) -> None:
    """Raises `UserError` if a method needs a variable that the trajectories do not have.

    columns: those of the trajectories. where: what the error begins with.
    """
    missing = [node.name for node in system.nodes if node.name not in set(columns)]
    if missing and "known" in settings.intermediates:
        raise UserError(f"{where}: they have no values of {missing}, which '{settings.objective}' must see; {INSTEAD}")


def _mix(*parts: int) -> int:
    """One seed out of several numbers, the same on every machine."""
    return int(numpy_generator("assignment", *parts).integers(1 << 62))


def _likeliest(partial: list[tuple[int, Assignment]], count: int) -> list[tuple[int, Assignment]]:
    ranked = sorted(partial, key=lambda found: (found[0], -found[1].log_prob))
    kept: list[tuple[int, Assignment]] = []
    for row, assignment in ranked:
        if sum(1 for other, _ in kept[-count:] if other == row) < count:
            kept.append((row, assignment))
    return kept


def _candidate_index(counts: list[int]) -> Tensor:
    """The index of each row's candidates among all, `[rows, most]`, and −1 where a row has fewer than the most."""
    index = torch.full((len(counts), max(counts)), -1)
    start = 0
    for row, count in enumerate(counts):
        index[row, :count] = torch.arange(start, start + count)
        start += count
    return index


def _spread(values: Tensor, index: Tensor) -> Tensor:
    """`[candidates]` to `[rows, most]`, zero where there is no candidate."""
    index = index.to(values.device)
    return torch.where(
        index >= 0, values[index.clamp_min(0)], torch.zeros((), dtype=values.dtype, device=values.device)
    )
