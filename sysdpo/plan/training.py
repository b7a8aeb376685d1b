"""The cost of training a system by one method."""

import math

from sysdpo.base.errors import UserError
from sysdpo.components.language import LanguageModel
from sysdpo.components.meter import NOTHING, Usage
from sysdpo.components.weightless import networks_of, parameters
from sysdpo.method.candidates import GENERATORS
from sysdpo.method.intermediates import HiddenIntermediates
from sysdpo.method.settings import MethodSettings
from sysdpo.plan.rehearsal import Rehearsal

FLOAT = 4  # bytes


class TrainingPlan:
    """One method on one seed, on `trajectories` trajectories, by `processes` processes that share each batch.

    Raises `UserError` if the batch cannot be divided, or if the method does not suit the system.
    """

    def __init__(
        self, rehearsal: Rehearsal, settings: MethodSettings, prompts: int, trajectories: int, processes: int = 1
    ):
        self.rehearsal, self.settings, self.prompts, self.processes = rehearsal, settings, prompts, processes
        if settings.batch_size % processes:
            raise UserError(f"batch_size: {settings.batch_size} should be a multiple of the {processes} processes")
        self.share = settings.batch_size // processes
        pairs_at_once = min(settings.micro_batch_size or self.share, self.share)
        self.first, self.again = rehearsal.update(settings, pairs_at_once)
        self.pairs = settings.steps * settings.batch_size
        self.passes = self.pairs / pairs_at_once
        self.new = min(1.0, trajectories / (2 * self.pairs))  # the share of pairs that are seen for the first time
        system = rehearsal.system
        weights = {name: parameters(*networks_of(system.components[name]), trained=True) for name in system.trainable}
        self.trainable = sum(weights[name] for name in settings.trained(system.trainable))
        # Later rounds have a second adapter for the reference.
        self.reference_bytes = FLOAT * sum(weights.values()) if settings.rounds > 1 else 0
        is_hidden = "hidden" in settings.intermediates
        self.hidden = HiddenIntermediates(system, settings.candidates).hidden if is_hidden else []

    def memory(self) -> float:
        """The peak memory of one process in bytes."""
        held = self.rehearsal.held.values()
        # A process generates candidates by itself, and for that gathers the models that are sharded.
        unsharded = sum(model.whole for model in held if model.share < model.whole)
        choosing = unsharded + self.candidates().peak if self.hidden else 0.0
        # Gradients, AdamW's two averages, and with several processes the buffers that exchange gradients.
        states = (3 + (self.processes > 1)) * FLOAT * self.trainable
        return sum(model.share for model in held) + states + self.reference_bytes + max(self.first.peak, choosing)

    def usage(self) -> Usage:
        """The cost of all updates of a round, in all processes."""
        updates = self.first.times(self.new) + self.again.times(1 - self.new)
        return self.candidates() + updates.times(self.passes)

    def candidates(self) -> Usage:
        """The cost of candidates for hidden values, which each process renews every few updates for its prompts."""
        usage, wanted, known = NOTHING, self.settings.candidates, 1
        drawn = GENERATORS[wanted.generator].draws
        prompts = min(min(wanted.refresh, self.settings.steps) * self.share, self.prompts)
        times = math.ceil(self.settings.steps / wanted.refresh) * self.processes
        for node in self.hidden:
            model = self.rehearsal.system.components[node.component]
            if isinstance(model, LanguageModel):
                rows, width = (prompts * wanted.count, 1) if drawn else (prompts * known, wanted.count)
                together = max(1, min(rows, model.batch_size // width))
                generated = self.rehearsal.generation(node, together, width=width, shares=False)
                usage = usage + generated.times(times * rows / together)
                known = wanted.count
        return usage
