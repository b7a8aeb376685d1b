"""A system's computations, each executed once on the meta device by the code of a real run."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.components.meter import Meter, Usage
from sysdpo.components.weightless import Held, networks_of
from sysdpo.method.component import LogProbs, Remembering
from sysdpo.method.intermediates import Assignment, HiddenIntermediates, intermediates_of
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import Node, System, conditions_of
from sysdpo.method.training import pair_loss
from sysdpo.plan.sampling import drawing, generation
from sysdpo.plan.texts import trajectories

CLOSE = 0.1  # relative difference of lengths

Inputs = Mapping[str, str]


class Rehearsal:
    """A system on the meta device. inputs: typical ones, for the arithmetic, and the longest, for the memory.

    held: the memory of each component's weights.
    """

    def __init__(self, system: System, inputs: Sequence[Inputs], held: Mapping[str, Held]):
        self.system, self.held, (self.typical, self.longest) = system, held, inputs
        self.unpacked = max(component.unpacked for component in held.values())
        components = system.components.items()
        self.language_models = {name: model for name, model in components if isinstance(model, LanguageModel)}
        self.diffusion_models = {name: model for name, model in components if isinstance(model, DiffusionModel)}
        lengths = [(self.prompt(name, self.typical), self.prompt(name, self.longest)) for name in self.language_models]
        if all(usual >= (1 - CLOSE) * most for usual, most in lengths):
            self.typical = self.longest
        self._seen: Counter[str] = Counter()
        for name, component in components:
            component.log_probs = partial(self._log_probs, name, component.log_probs)  # type: ignore[method-assign]
            for weight in component.trainable_parameters():
                weight.grad = weight.detach().clone()
        self.meter = Meter(*networks_of(*system.components.values()))
        self._known: dict[Any, Any] = {}

    def _log_probs(self, name: str, log_probs: Any, conditions: Any, values: Any, *, draw: Any) -> LogProbs:
        """The component's own log-probabilities, counting the tokens and images it reads."""
        if model := self.language_models.get(name):
            read = sum(len(model.encode_prompt(condition)) for condition in conditions)
            self._seen["tokens"] += read + sum(len(value.tokens) for value in values)
        self._seen["images"] += len(values) * (name in self.diffusion_models)
        return log_probs(conditions, values, draw=draw)

    def prompt(self, name: str, inputs: Inputs) -> int:
        """The number of tokens in a language model's longest prompt."""
        values, model = trajectories(self.system, inputs, 1), self.language_models[name]
        nodes = [node for node in self.system.nodes if node.component == name]
        return max(len(model.encode_prompt(conditions_of(node, values)[0])) for node in nodes)

    def sampling(self, node: Node, rows: int) -> Usage:
        """The cost of a node's values for `rows` trajectories at once."""
        if node.component in self.language_models:
            return self.generation(node, rows, shares=True)
        model = self.diffusion_models[node.component]
        key = ("drawing", node.component, rows)  # a picture's cost does not depend on its prompt
        return self._measured(key, rows, lambda values: drawing(self.meter, model, conditions_of(node, values)))

    def generation(self, node: Node, rows: int, **how: Any) -> Usage:
        """The cost of completions at a language model's node for `rows` prompts at once; see `sampling.generation`."""
        model, weights = self.language_models[node.component], self.held[node.component].whole

        def run(values: dict[str, list[Any]]) -> Usage:
            prompts = [model.encode_prompt(condition) for condition in conditions_of(node, values)]
            return generation(self.meter, model, prompts, weights, **how)

        return self._measured((node.name, rows, *how.items()), rows, run)

    def drift(self, name: str, rows: int) -> Usage:
        """The cost of a component's drift from its reference, on `rows` trajectories at once."""

        def run(values: dict[str, list[Any]]) -> Usage:
            return self.meter.measured(lambda: self.system.drift(values, draw=range(rows), components=[name]))

        return self._measured(("drift", name, rows), rows, run)

    def _measured(self, key: Any, rows: int, run: Callable[[dict[str, list[Any]]], Usage]) -> Usage:
        """The arithmetic of `rows` typical trajectories and the memory of the longest, computed once per `key`."""
        if key not in self._known:
            longest = run(trajectories(self.system, self.longest, rows))
            is_one = self.typical is self.longest
            typical = longest if is_one else run(trajectories(self.system, self.typical, rows))
            self._known[key] = replace(typical, peak=longest.peak + self.unpacked)
        return self._known[key]

    def update(self, settings: MethodSettings, pairs: int) -> tuple[Usage, Usage]:
        """The cost of the gradients of a method's loss on `pairs` pairs at once, the first time and later.

        Later the noise differs, and the outputs of frozen modules are cached.
        """
        trained = settings.trained(self.system.trainable)
        candidates = settings.candidates if "hidden" in settings.intermediates else None
        key = (*trained, *sorted(settings.intermediates), repr(candidates), pairs)
        if key not in self._known:
            first, again = longest, _ = self._update(settings, trained, self.longest, pairs)
            if self.typical is not self.longest:
                first, again = self._update(settings, trained, self.typical, pairs)
            self._known[key] = replace(first, peak=longest.peak + self.unpacked), again
        return self._known[key]

    def _update(self, settings: MethodSettings, trained: list[str], inputs: Inputs, pairs: int) -> list[Usage]:
        intermediates, usages = intermediates_of(self.system, settings), []
        memories = [c.memories for c in self.system.components.values() if isinstance(c, Remembering)]
        values = trajectories(self.system, inputs, pairs, 2)
        seen = {name: values[name] for name in intermediates.variables(values)}
        keys = [str(number) for number in range(pairs)] * 2
        for draw in (0, 1):
            for source in (intermediates, getattr(intermediates, "hidden", None)):
                if isinstance(source, HiddenIntermediates):
                    source.sets = self._assignments(source, inputs, pairs)
            self._seen.clear()
            noise = [draw * pairs + number for number in range(pairs)] * 2

            def loss() -> None:
                batch = intermediates.log_probs(seen, keys, draw=noise, components=trained)  # noqa: B023
                pair_loss(batch, settings)[0].backward()

            usage = self.meter.measured(loss)
            usages.append(replace(usage, tokens=self._seen["tokens"], images=self._seen["images"]))
            if not any(kind for memory in memories for kind in memory.values()):  # then all passes cost the same
                return [*usages, *usages]
        for kind in [kind for memory in memories for kind in memory.values()]:
            kind.clear()
        return usages

    def _assignments(self, hidden: HiddenIntermediates, inputs: Inputs, pairs: int) -> dict[str, list[Assignment]]:
        """Assignments as if generated, `count` for each prompt, all different."""
        count = hidden.settings.count
        values = trajectories(self.system, inputs, pairs, count)
        rows = [{node.name: values[node.name][row] for node in hidden.hidden} for row in range(pairs * count)]
        return {str(number): [Assignment(row, 0.0) for row in rows[number::pairs]] for number in range(pairs)}
