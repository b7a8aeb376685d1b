"""The cost of each workflow rule that runs a model, one row per rule and method."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.components.meter import NOTHING, Usage
from sysdpo.components.weightless import Held, networks_of, parameters, weightless_judge
from sysdpo.method.benchmark import Planned, load_benchmark
from sysdpo.method.config import Config, evaluation_settings, method_settings, system_config
from sysdpo.method.evaluation import DRIFT_ROWS
from sysdpo.method.settings import MethodSettings, Sampling
from sysdpo.plan.judging import Judging
from sysdpo.plan.models import build_system, config_folder, loaded
from sysdpo.plan.rehearsal import Rehearsal
from sysdpo.plan.texts import inputs_of, trajectories
from sysdpo.plan.training import FLOAT, TrainingPlan

BYTES_A_TOKEN = 12  # of text and token id
BYTES_A_PIXEL = 2.4  # of a PNG file: about that of a photograph
BYTES_A_SCORE = 40


@dataclass(frozen=True)
class Row:
    """The jobs of one rule, over all seeds and shards.

    `peak_bytes` and `weights` are bytes of one process, of which a job has one on each of its `gpus`; the numbers of
    parameters are those of one job. reference_bytes: of a second adapter, None if there is no reference.
    """

    system: str
    rule: str
    jobs: int
    usage: Usage
    peak_bytes: float
    weights: float
    parameters: int
    disk_bytes: float = 0.0
    gpus: int = 1
    trained: int = 0
    reference_bytes: int | None = None


class SystemPlan:
    """One system of pretrained models only.

    `processes` share each training; `assumed` is the length in tokens of inputs whose dataset is missing.
    """

    def __init__(self, config: Config, name: str, *, processes: int = 1, assumed: int = 256):
        config = config | {"experiments": {}}  # experiments are not planned
        self.name, self.processes, self.seeds = name, processes, len(config["seeds"])
        described, where = system_config(config, name), f"systems.{name}"
        self.benchmark = load_benchmark(name, described)
        self.counts: Mapping[str, int] = described.get("prompts") or {}
        self.sampling = Sampling.read(described["trajectories"], f"{where}.trajectories")
        self.evaluation = evaluation_settings(described, name)
        self.methods = {method: method_settings(config, name, method) for method in described["methods"]}
        self.drawn_to_train = self.counts.get("train", 0) * self.sampling.samples_per_prompt
        settings, system = loaded(self.benchmark), build_system(self.benchmark, where)
        held = {
            key: Held(component, processes, four_bit=getattr(settings.get(key), "load_in_4bit", False))
            for key, component in system.components.items()
        }
        self.has_prompts, inputs = inputs_of(self.benchmark, described, assumed)
        self.rehearsal = Rehearsal(system, inputs, held)
        self.weights = sum(component.whole for component in held.values())
        self.parameters = parameters(*networks_of(*system.components.values()))
        self.judges = dict(self._judges(where))
        self.files = {judge.model: judge.weights for judge in self.judges.values()}  # bytes, in the format of loading
        self.files |= {str(model.model): held[key].file for key, model in settings.items()}

    def rows(self) -> Iterator[Row]:
        """The rows in the order in which the rules run."""
        trained = {name: settings for name, settings in self.methods.items() if settings.trains}
        if any(settings.preferences == "sampled" for settings in trained.values()):
            yield self._drawn("sample", self.drawn_to_train, self.sampling.shards)
            yield from self._score()
        for name, settings in trained.items():
            yield self._train(name, settings)
        for name, settings in self.methods.items():
            yield self._evaluate(name, settings)

    def training(self, method: str) -> TrainingPlan:
        """The cost of training by a method."""
        settings, prompts = self.methods[method], self.counts.get("train", 0)
        is_all = settings.preferences == "sampled" and settings.pairs == "all"
        used = self.drawn_to_train if is_all else 2 * prompts
        return TrainingPlan(self.rehearsal, settings, prompts, used, self.processes)

    def _judges(self, where: str) -> Iterator[tuple[str, Judging]]:
        """The models that score, by section of the configuration."""
        system, painters = self.rehearsal.system, self.rehearsal.diffusion_models
        images = sum(node.component in painters for node in system.nodes if node.name in system.outputs)
        texts = []
        for inputs in (self.rehearsal.typical, self.rehearsal.longest):
            values = trajectories(system, inputs, 1)
            texts.append([[str(values[name][0]) for name in names] for names in (system.inputs, system.outputs)])
        for section, judge in self.benchmark.judges().items() if isinstance(self.benchmark, Planned) else ():
            folder = config_folder(judge.model, f"{where}.{section}.model")
            network = weightless_judge(folder, judge.dtype)
            if network is not None:
                yield section, Judging(network, judge, folder, texts=texts, images=images)

    def _row(self, rule: str, jobs: int, usage: Usage, peak: float, **more: Any) -> Row:
        return Row(self.name, rule, jobs, usage, peak, self.weights, self.parameters, **more)

    def _drawn(self, rule: str, count: int, jobs: int) -> Row:
        """The cost of `count` trajectories per seed, in `jobs` jobs per seed."""
        usage, disk, rows, system = NOTHING, 0.0, self.seeds * count, self.rehearsal.system
        for node in system.nodes if count else ():
            component = system.components[node.component]
            if isinstance(component, LanguageModel):
                disk += rows * component.max_new_tokens * BYTES_A_TOKEN
            elif isinstance(component, DiffusionModel):
                disk += rows * math.prod(component.picture_size) * BYTES_A_PIXEL
            else:
                continue
            together = min(math.ceil(count / jobs), component.batch_size)
            usage = usage + self.rehearsal.sampling(node, together).times(rows / together)
        return self._row(rule, self.seeds * jobs, usage, self.weights + usage.peak, disk_bytes=disk)

    def _score(self) -> Iterator[Row]:
        if scorer := self.judges.get("scorer"):
            usage, disk = scorer.usage(self.drawn_to_train), self.seeds * self.drawn_to_train * BYTES_A_SCORE
            sizes = (scorer.weights + usage.peak, scorer.weights, scorer.parameters, disk)
            yield Row(self.name, "score", self.seeds, usage.times(self.seeds), *sizes)

    def _train(self, name: str, settings: MethodSettings) -> Row:
        plan = self.training(name)
        usage, peak = plan.usage().times(self.seeds * settings.rounds), plan.memory()
        # Later rounds start with fresh trajectories and their scores.
        sampled = self._drawn("sample", self.drawn_to_train, self.sampling.shards)
        for fresh in (sampled, *self._score()) if settings.rounds > 1 else ():
            usage = usage + replace(fresh.usage, tokens=0, images=0).times(settings.rounds - 1)
            both = fresh.peak_bytes + (self.weights if fresh.rule == "score" else 0.0)
            peak = max(peak, plan.reference_bytes + both)
        sizes = {"trained": plan.trainable, "reference_bytes": plan.reference_bytes, "gpus": self.processes}
        disk = self.seeds * FLOAT * plan.trainable
        return self._row(f"train {name}", self.seeds, usage, peak, disk_bytes=disk, **sizes)

    def _evaluate(self, name: str, settings: MethodSettings) -> Row:
        """Sampling, scoring, and the drift of the selected samples from the reference."""
        samples, jobs = self.counts.get("test", 0) * self.evaluation.samples_per_prompt, self.evaluation.shards
        row = self._drawn(f"evaluate {name}", samples * settings.best_of, jobs)
        beside, peak = NOTHING, 0.0
        if self.evaluation.greedy:
            beside = self._drawn("greedy", self.counts.get("test", 0), jobs).usage
        for section, judge in self.judges.items():  # one after the other, each freed before the next
            judged = judge.usage(samples * (settings.best_of if section == "scorer" else 1) / jobs)
            beside, peak = beside + judged.times(self.seeds * jobs), max(peak, judge.weights + judged.peak)
        for key, component in self.rehearsal.system.components.items() if samples else ():
            if isinstance(component, (LanguageModel, DiffusionModel)):
                nodes = sum(node.component == key for node in self.rehearsal.system.nodes)
                rows = min(DRIFT_ROWS, max(1, component.batch_size // nodes), math.ceil(samples / jobs))
                drift = self.rehearsal.drift(key, rows)
                beside, peak = beside + drift.times(self.seeds * samples / rows), max(peak, drift.peak)
        usage = row.usage + replace(beside, tokens=0, images=0)
        peak, disk = max(row.peak_bytes, self.weights + peak), row.disk_bytes / settings.best_of
        return replace(row, usage=usage, peak_bytes=peak, reference_bytes=0, disk_bytes=disk)


def plan_systems(config: Config, **settings: Any) -> tuple[list[Row], list[SystemPlan], list[str]]:
    """The rows of every planned system, these systems, and the names of the others.

    Systems without models, or with models that the workflow makes, take minutes and are not planned. settings: for
    `SystemPlan`.
    """

    def takes_minutes(name: str) -> bool:
        models = loaded(load_benchmark(name, system_config(config, name)))
        return not models or any(model.model is None for model in models.values())

    not_planned = [name for name in config["systems"] if takes_minutes(name)]
    systems = [SystemPlan(config, name, **settings) for name in config["systems"] if name not in not_planned]
    return [row for system in systems for row in system.rows()], systems, not_planned
