"""How often the same comes up again: a factor that two rows of a batch share is computed once, and so is a reference.

Short answers of small models repeat a lot. What the foundation models are taught stands for what they will say; of
other models nothing is known, and all that they say is taken to be new.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sysdpo.method.system import Node

Say = Callable[..., Any]
"""What a node's value is, given a random generator and its parents' values."""

Trajectory = dict[str, Any]

DRAWS, PROMPTS = 16, 200


class Repeats:
    """Trajectories as they may come out, a list of them for each prompt."""

    def __init__(self, nodes: Sequence[Node], says: Mapping[str, Say], inputs: Sequence[Mapping[str, Any]]):
        self.nodes = nodes
        parents = {parent for node in nodes for parent in node.parents}
        self.hidden = [node.name for node in nodes if node.name in parents]
        self.outputs = [node.name for node in nodes if node.name not in parents]
        rng = np.random.default_rng(0)
        places = rng.permutation(len(inputs))[:PROMPTS]
        self.drawn = [[self._draw(says, inputs[place], rng) for _ in range(DRAWS)] for place in places]

    def _draw(self, says: Mapping[str, Say], inputs: Mapping[str, Any], rng: np.random.Generator) -> Trajectory:
        values = dict(inputs)
        for node in self.nodes:
            # What nobody knows of is unlike anything else.
            say = says.get(node.component, lambda rng, *parents: object())
            values[node.name] = say(rng, *(values[parent] for parent in node.parents))
        return values

    def rows_of_pair(self, component: str, candidates: int | None = None) -> float:
        """Distinct rows of a component for a pair, on average; `candidates`: of what is hidden, if anything is."""
        found = 0
        for drawn in self.drawn:
            sides = [drawn[0], next((each for each in drawn if self._differ(each, drawn[0])), drawn[0])]
            known = sides if candidates is None else [
                each | {name: side[name] for name in self.outputs}
                for side in sides
                for each in self._apart(drawn)[:candidates]
            ]  # fmt: skip
            found += self._distinct(component, known)
        return found / len(self.drawn)

    def distinct(self, component: str, samples: int, *, hides: bool) -> float:
        """Distinct rows of a component that a prompt can have, given so many trajectories of it."""
        found = 0
        for drawn in self.drawn:
            seen = drawn[:samples]
            known = seen if not hides else [
                each | {name: side[name] for name in self.outputs} for side in seen for each in self._apart(drawn)
            ]  # fmt: skip
            found += self._distinct(component, known)
        return found / len(self.drawn) * max(1.0, samples / DRAWS)

    def _apart(self, drawn: list[Trajectory]) -> list[Trajectory]:
        """One trajectory for each distinct assignment of what is hidden."""
        return list({tuple(each[name] for name in self.hidden): each for each in reversed(drawn)}.values())[::-1]

    def _differ(self, one: Trajectory, other: Trajectory) -> bool:
        return any(one[name] != other[name] for name in self.outputs)

    def _distinct(self, component: str, known: list[Trajectory]) -> int:
        nodes = [node for node in self.nodes if node.component == component]
        return sum(
            len({(*(each[parent] for parent in node.parents), each[node.name]) for each in known}) for node in nodes
        )
