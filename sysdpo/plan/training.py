"""What training a system by one method takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sysdpo.base.errors import UserError
from sysdpo.method.objectives import trained_components
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import Node
from sysdpo.plan.components import ComponentPlan
from sysdpo.plan.diffusion import DiffusionPlan
from sysdpo.plan.language import LanguagePlan, Pass
from sysdpo.plan.meter import NOTHING, Usage
from sysdpo.plan.repeats import Repeats

FLOAT = 4  # bytes
BEAMS = ("beam", "diverse_beam")


@dataclass(frozen=True)
class Data:
    """What a method learns from: prompts, the trajectories of each that are used, and pairs in all."""

    prompts: int
    samples: int
    pairs: int


class TrainingPlan:
    """One method on one seed, by so many processes that share each batch. `components` are all that are loaded.

    Raises `UserError` where the batch cannot be shared.
    """

    def __init__(
        self,
        components: Mapping[str, ComponentPlan],
        repeats: Repeats,
        settings: MethodSettings,
        data: Data,
        processes: int = 1,
    ):
        self.components, self.repeats, self.settings, self.data = components, repeats, settings, data
        self.nodes, self.processes = repeats.nodes, processes
        self.trained = [name for name in trained_components(settings.objective, list(components)) if name in components]
        self.hides = "hidden" in settings.intermediates
        self.seen = list(components) if self.hides else self.trained
        if settings.batch_size % processes:
            raise UserError(f"batch_size: {settings.batch_size} should be a multiple of the {processes} processes")
        share = settings.batch_size // processes
        self.pairs_at_once = min(settings.micro_batch_size or share, share)
        self.visits = settings.steps * settings.batch_size

    @property
    def trainable(self) -> int:
        """Weights that are trained."""
        return sum(self.components[name].trainable for name in self.trained)

    @property
    def reference_bytes(self) -> int:
        """What the reference needs beside the policy: nothing, or a second adapter once a round has begun anew."""
        return FLOAT * sum(part.trainable for part in self.components.values()) if self.settings.rounds > 1 else 0

    def rows_of_pair(self, name: str) -> float:
        """Rows of a component for a pair, or for all candidates of what is hidden of its two sides."""
        return self.repeats.rows_of_pair(name, self.settings.candidate_settings.count if self.hides else None)

    def pass_of(self, name: str) -> Pass:
        """The rows of a component that it sees at once."""
        return self.components[name].training(self.rows_of_pair(name) * self.pairs_at_once)

    def memory(self) -> float:
        """The bytes that one process holds at its fullest."""
        parts = self.components.values()
        held = sum(part.held(self.processes) for part in parts)
        # A process chooses candidates by itself, for which it gathers models of which it holds a share.
        gathered = sum(part.weights for part in parts if part.held(self.processes) < part.weights)
        choosing = gathered + self._candidates().peak if self.hides else 0.0
        # Gradients, AdamW's two averages, and where several processes exchange gradients, what they send.
        states = (3 + (self.processes > 1)) * FLOAT * self.trainable
        return held + states + self.reference_bytes + max(self.activations(), choosing)

    def activations(self) -> float:
        """Bytes at the fullest moment: a component's activations are kept until its gradients have passed."""
        held = fullest = 0.0
        for name in self.seen:
            part, through = self.components[name], self.pass_of(name)
            if isinstance(part, DiffusionPlan):  # its reference comes first, the images' latents before that
                images = 2 * self.pairs_at_once * sum(node.component == name for node in self.nodes)
                before = max(part.encoding(images).peak, through.reference.peak)
                fullest = max(fullest, held + before, held + through.policy.peak)
            else:
                fullest = max(fullest, held + through.policy.peak, held + through.policy.kept + through.reference.peak)
            held += through.policy.kept
        for name in reversed(self.seen):
            through = self.pass_of(name)
            fullest = max(fullest, held + through.backward.peak)
            held -= through.policy.kept
        return fullest

    def usage(self) -> Usage:
        """All updates of a round, in all processes."""
        usage = self._candidates()
        for name in self.seen:
            part, through = self.components[name], self.pass_of(name)
            parts = self.visits / self.pairs_at_once
            usage = usage + (through.policy + through.backward).times(parts)
            usage = usage + through.reference.times(parts * self._new_references(name))
            if isinstance(part, DiffusionPlan):
                usage = usage + part.encoding(self._distinct_values(name))
        return usage

    def _new_references(self, name: str) -> float:
        """The share of a component's rows whose reference is not known yet."""
        part = self.components[name]
        if not part.caches_reference or (isinstance(part, DiffusionPlan) and self.hides):
            return 1.0
        if isinstance(part, DiffusionPlan):
            return min(1.0, self.data.pairs * self.settings.noise_bank / self.visits)
        distinct = self.data.prompts * self.repeats.distinct(name, self.data.samples, hides=self.hides)
        return min(1.0, distinct / (self.visits * self.rows_of_pair(name)))

    def _distinct_values(self, name: str) -> int:
        """The values of a component that training meets."""
        nodes = sum(node.component == name for node in self.nodes)
        return nodes * min(2 * self.visits, 2 * self.data.pairs, self.data.prompts * self.data.samples)

    def _candidates(self) -> Usage:
        """Candidates for what is hidden, chosen anew every few updates by each process for its prompts."""
        usage = NOTHING
        if not self.hides:
            return usage
        wanted = self.settings.candidate_settings
        updates = min(wanted.refresh, self.settings.steps)
        prompts = min(updates * self.settings.batch_size // self.processes, self.data.prompts)
        times = math.ceil(self.settings.steps / wanted.refresh) * self.processes
        known = 1
        for node in self._hidden():
            part = self.components[node.component]
            assert isinstance(part, LanguagePlan)
            drawn = wanted.generator not in BEAMS
            count = 1 if drawn and known > 1 else wanted.count
            usage = usage + part.beams(prompts * known, count, drawn=drawn).times(times)
            known = wanted.count
        return usage

    def _hidden(self) -> list[Node]:
        parents = {parent for node in self.nodes for parent in node.parents}
        return [node for node in self.nodes if node.name in parents and node.component in self.components]

    def tokens(self) -> float:
        """That are scored: prompts and completions, each as often as it is met."""
        return sum(self.visits * self.rows_of_pair(name) * self.components[name].tokens for name in self.seen)

    def images(self) -> float:
        """That are denoised at one draw, each as often as it is met."""
        return sum(self.visits * self.rows_of_pair(name) * self.components[name].images for name in self.seen)
