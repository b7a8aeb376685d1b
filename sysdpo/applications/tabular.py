"""Systems small enough to enumerate, on which the theory can be checked to many digits.

People prefer outputs of a prompt with `P*(z¹≻z²|x) = σ(q(x,z¹) − q(x,z²))` (Bradley-Terry, rewards `q`). At its optimum
DPO then satisfies, over the exact marginals `p(z|x) = Σ_y p(y|x) p(z|x,y)`,

    `β·[log p_θ/p_ref(z¹|x) − log p_θ/p_ref(z²|x)] = logit P*(z¹≻z²|x) = q(x,z¹) − q(x,z²)`

(β-perfect alignment; Wang et al., arXiv 2502.17721, Definition 1 where the reference is uniform).

`direct` sees whole trajectories `s = (y, z)`, labelled by their outputs. Its optimum over all distributions is the tilt
`p*(y,z|x) ∝ p_ref(y,z|x)·exp(q(x,z)/β)`: the factor depends on `z` alone, so the marginals are tilted alike, and the
alignment is perfect. A system reaches it only if its own factors can form `p*`. Node by node, from the outputs up, each
factor is tilted by what remains, `E_ref[exp(q/β) | its inputs]`, which must not couple nodes that are independent in
the graph. All nodes here see the prompt beside their parents, and:

- `chain` (x → y → z): always possible, `z` by `exp(q/β)` and `y` by `E[exp(q/β)|x,y]`;
- `fan_out` (x → y; y → z1, z2): possible, as `q` is a sum of a reward of `z1` and one of `z2`;
- `fan_in` (x → y1, y2; both → z) and `diamond` (x → a → b, c; both → z): possible, as `z` is a pair whose halves come
  from one parent each, and `q` is a sum over the halves, so `E[exp(q/β)|y1,y2]` is a product;
- `entangled` (`fan_in` with `z` and `q` of no such form): **impossible**, since the tilt makes `y1` and `y2` dependent
  given `x`. `direct` must leave a gap. `sampling` over all of `Y` constrains the marginal alone, which `z` can set
  freely, and so need not.

Where one component owns two nodes (`shared`: `y` and `z` of the chain under conditions of different length, `z1` and
`z2`, `y1` and `y2`, `b` and `c`), the nodes have the same reference and reward, or one table could not be tilted both
ways. Sizes, tables and rewards are our choice, drawn from a seed.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from sysdpo.base.errors import UserError
from sysdpo.components.table import Table
from sysdpo.method.component import LogProbs
from sysdpo.method.system import Node, System, conditions_of

PROMPTS = ("x0", "x1")
SPREAD = 0.8  # standard deviation of the reference's logits

Names = Sequence[tuple[str, ...]]
ROOT: Names = list(product(PROMPTS))
"""The conditions of a node that sees the prompt alone."""


@dataclass(frozen=True)
class Tabular:
    """A system with all its trajectories, ordered by prompt, hidden assignment and output.

    tables: the components. trajectories: columns of `P·Y·Z` rows in that order. rewards: `q(x,z)`, `[P, Z]`.
    shape: `(P, Y, Z)`.
    """

    name: str
    system: System
    tables: Mapping[str, Table]
    trajectories: Mapping[str, Sequence[str]]
    rewards: Tensor
    shape: tuple[int, int, int]

    @cached_property
    def _indices(self) -> dict[str, Tensor]:
        """The indices of all trajectories' factors in each component's table, node after node: `[nodes·P·Y·Z]`."""
        nodes = {name: [node for node in self.system.nodes if node.component == name] for name in self.tables}
        return {
            name: torch.cat(
                [table.locate(conditions_of(n, self.trajectories), self.trajectories[n.name]) for n in nodes[name]]
            )
            for name, table in self.tables.items()
        }

    def log_probs(self) -> dict[str, LogProbs]:
        """Every component's log-probabilities of every trajectory, under policy and reference: `[P, Y, Z]` each.

        Equal to `System.log_probs` of these trajectories, but looks each up only once.
        """
        factors = {name: self.tables[name].log_probs_at(indices) for name, indices in self._indices.items()}
        shape = (-1, *self.shape)
        return {
            name: LogProbs(policy.view(shape).sum(0), ref.view(shape).sum(0)) for name, (policy, ref) in factors.items()
        }

    def log_joints(self) -> LogProbs:
        """`log p(y,z|x)`: `[P, Y, Z]` each."""
        return joint(self.log_probs())

    def log_marginals(self) -> LogProbs:
        """`log p(z|x) = log Σ_y p(y,z|x)`, exact and differentiable: `[P, Z]` each."""
        policy, reference = self.log_joints()
        return LogProbs(policy.logsumexp(1), reference.logsumexp(1))

    def preferences(self) -> Tensor:
        """`P*(z¹≻z²|x)`: `[P, Z, Z]`."""
        return (self.rewards[:, :, None] - self.rewards[:, None, :]).sigmoid()

    def alignment_gaps(self, beta: float) -> Tensor:
        """`|β·[log p_θ/p_ref(z¹|x) − log p_θ/p_ref(z²|x)] − logit P*(z¹≻z²|x)|` for all pairs: `[P, Z, Z]`."""
        policy, reference = self.log_marginals()
        surplus = beta * (policy - reference) - self.rewards
        return (surplus[:, :, None] - surplus[:, None, :]).abs()


def joint(log_probs: Mapping[str, LogProbs]) -> LogProbs:
    """The system's log-probabilities, the sum of its components'."""
    return LogProbs(
        torch.stack([policy for policy, _ in log_probs.values()]).sum(0),
        torch.stack([reference for _, reference in log_probs.values()]).sum(0),
    )


class _Definition(NamedTuple):
    """Nodes, components, the values of each hidden and each output variable, and the reward function."""

    nodes: list[Node]
    components: dict[str, Table]
    hidden: dict[str, Sequence[str]]
    outputs: dict[str, Sequence[str]]
    reward: Callable[..., float]


class _Draws:
    """Reference logits and rewards from one seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def logits(self, rows: int, columns: int) -> Tensor:
        drawn = [[self._random.gauss(0, SPREAD) for _ in range(columns)] for _ in range(rows)]
        return torch.tensor(drawn, dtype=torch.float64)

    def rewards(self, values: Sequence[str]) -> dict[tuple[str, str], float]:
        return {pair: self._random.uniform(-1, 1) for pair in product(PROMPTS, values)}


def _values(name: str, count: int) -> list[str]:
    return [f"{name}{index}" for index in range(count)]


def _chain(shared: bool, draws: _Draws) -> _Definition:
    y, z = _values("y", 6), _values("z", 4)
    first, second = ROOT, list(product(PROMPTS, y))
    above, below, q = draws.logits(len(first), 6), draws.logits(len(second), 4), draws.rewards(z)
    if shared:
        logits = torch.full((len(first) + len(second), 10), -torch.inf, dtype=torch.float64)
        logits[: len(first), :6], logits[len(first) :, 6:] = above, below
        components = {"both": Table([*first, *second], [*y, *z], logits)}
    else:
        components = {"first": Table(first, y, above), "second": Table(second, z, below)}
    owner = ("both", "both") if shared else ("first", "second")
    nodes = [Node("y", owner[0], ("x",)), Node("z", owner[1], ("x", "y"))]
    return _Definition(nodes, components, {"y": y}, {"z": z}, lambda x, z: q[x, z])


def _fan_out(shared: bool, draws: _Draws) -> _Definition:
    y, z = _values("y", 5), _values("z", 2)
    sources = list(product(PROMPTS, y))
    components = {"source": Table(ROOT, y, draws.logits(2, 5))}
    owners = _twins(components, "branch", sources, z, shared, draws)
    nodes = [Node("y", "source", ("x",)), *(Node(f"z{i}", owners[i - 1], ("x", "y")) for i in (1, 2))]
    one = draws.rewards(z)
    two = one if shared else draws.rewards(z)
    return _Definition(nodes, components, {"y": y}, {"z1": z, "z2": z}, lambda x, z1, z2: one[x, z1] + two[x, z2])


def _fan_in(shared: bool, draws: _Draws) -> _Definition:
    y = _values("y", 2)
    components: dict[str, Table] = {}
    owners = _twins(components, "branch", ROOT, y, shared, draws)
    z, logits, q = _halves(y, shared, draws)
    components["merge"] = Table(list(product(PROMPTS, y, y)), z, logits)
    nodes = [Node("y1", owners[0], ("x",)), Node("y2", owners[1], ("x",)), Node("z", "merge", ("x", "y1", "y2"))]
    return _Definition(nodes, components, {"y1": y, "y2": y}, {"z": z}, q)


def _entangled(shared: bool, draws: _Draws) -> _Definition:
    definition = _fan_in(shared, draws)
    z = definition.outputs["z"]
    conditions = definition.components["merge"].conditions
    q = draws.rewards(z)
    definition.components["merge"] = Table(conditions, z, 2 * draws.logits(len(conditions), len(z)))
    return definition._replace(reward=lambda x, z: q[x, z])


def _diamond(shared: bool, draws: _Draws) -> _Definition:
    a, y = _values("a", 2), _values("y", 2)
    components = {"source": Table(ROOT, a, draws.logits(2, 2))}
    owners = _twins(components, "branch", list(product(PROMPTS, a)), y, shared, draws)
    z, logits, q = _halves(y, shared, draws)
    components["merge"] = Table(list(product(PROMPTS, y, y)), z, logits)
    nodes = [
        Node("a", "source", ("x",)),
        Node("b", owners[0], ("x", "a")),
        Node("c", owners[1], ("x", "a")),
        Node("z", "merge", ("x", "b", "c")),
    ]
    return _Definition(nodes, components, {"a": a, "b": y, "c": y}, {"z": z}, q)


def _twins(
    components: dict[str, Table], name: str, conditions: Names, values: Sequence[str], shared: bool, draws: _Draws
) -> tuple[str, str]:
    """Adds one component for two nodes, or one for each; returns the components' names."""
    owners = (name, name) if shared else (f"{name}1", f"{name}2")
    for owner in dict.fromkeys(owners):
        components[owner] = Table(conditions, values, draws.logits(len(conditions), len(values)))
    return owners


def _halves(y: Sequence[str], shared: bool, draws: _Draws) -> tuple[list[str], Tensor, Callable[[str, str], float]]:
    """Outputs `z = (left, right)` with `p(z|x,y1,y2) = p(left|x,y1) p(right|x,y2)` and a sum of rewards for `q`."""
    halves = ("0", "1")
    rows = len(PROMPTS), len(y), len(halves)
    left = draws.logits(rows[0] * rows[1], rows[2]).log_softmax(-1).view(rows)
    right = left if shared else draws.logits(rows[0] * rows[1], rows[2]).log_softmax(-1).view(rows)
    logits = left[:, :, None, :, None] + right[:, None, :, None, :]
    one = draws.rewards(halves)
    two = one if shared else draws.rewards(halves)
    z = ["".join(pair) for pair in product(halves, halves)]
    return z, logits.reshape(-1, len(z)), lambda x, z: one[x, z[0]] + two[x, z[1]]


SYSTEMS: dict[str, Callable[[bool, _Draws], _Definition]] = {
    "chain": _chain,
    "fan_out": _fan_out,
    "fan_in": _fan_in,
    "diamond": _diamond,
    "entangled": _entangled,
}


def build(name: str, *, shared: bool = False, seed: int = 0) -> Tabular:
    """The system `name` of `SYSTEMS`, at its reference; `shared`: one component owns two of its nodes.

    The tables and rewards follow from `name`, `shared` and `seed`. Raises `UserError` on an unknown name.
    """
    if name not in SYSTEMS:
        raise UserError(f"system: '{name}' should be one of {sorted(SYSTEMS)}")
    definition = SYSTEMS[name](shared, _Draws(seed))
    hidden, outputs = list(product(*definition.hidden.values())), list(product(*definition.outputs.values()))
    columns = zip(*((x, *y, *z) for x, y, z in product(PROMPTS, hidden, outputs)), strict=True)
    trajectories = dict(zip(("x", *definition.hidden, *definition.outputs), columns, strict=True))
    rewards = torch.tensor([[definition.reward(x, *z) for z in outputs] for x in PROMPTS], dtype=torch.float64)
    shape = (len(PROMPTS), len(hidden), len(outputs))
    system = System(("x",), definition.nodes, definition.components)
    return Tabular(name, system, definition.components, trajectories, rewards, shape)
