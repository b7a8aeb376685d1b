"""What each rule of the workflow that runs a model takes, a row for each rule and method."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.components.meter import NOTHING, Usage
from sysdpo.components.weightless import CountingTokenizer, Held, networks_of, parameters, weightless_judge
from sysdpo.method.benchmark import Planned, load_benchmark
from sysdpo.method.config import Config, evaluation_settings, method_settings, system_config
from sysdpo.method.evaluation import DRIFT_ROWS
from sysdpo.method.settings import MethodSettings, Sampling
from sysdpo.plan.judging import Judging
from sysdpo.plan.models import build_system, config_folder, loaded
from sysdpo.plan.rehearsal import Rehearsal
from sysdpo.plan.texts import image_size, inputs_of, trajectories
from sysdpo.plan.training import FLOAT, TrainingPlan

BYTES_A_TOKEN = 12  # of text, and of its number
BYTES_A_PIXEL = 2.4  # of a PNG file: about what photographs take
BYTES_A_SCORE = 40


@dataclass(frozen=True)
class Row:
    """Jobs of one rule, all seeds and parts together.

    `peak_bytes` and `weights`, in bytes too, are of one process, of which a job has one on each of its `gpus`; the
    numbers of parameters are of one job. reference_bytes: of a second adapter, None where there is no reference.
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
    """One system, none of whose models is made by the workflow itself.

    `processes` share each training; `assumed` is the length of inputs that are not here, in tokens.
    """

    def __init__(self, config: Config, name: str, *, processes: int = 1, assumed: int = 256):
        config = config | {"experiments": {}}  # whose grids are no part of it
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
            part: Held(component, processes, four_bit=getattr(settings.get(part), "load_in_4bit", False))
            for part, component in system.components.items()
        }
        self.has_prompts, inputs = inputs_of(self.benchmark, described, assumed)
        self.rehearsal = Rehearsal(system, inputs, held)
        self.weights = sum(part.whole for part in held.values())
        self.parameters = parameters(*networks_of(*system.components.values()))
        self.judges = dict(self._judges(where))
        # Bytes of the models' files, in the number format they are loaded in.
        self.files = {judge.model: judge.weights for judge in self.judges.values()}
        self.files |= {str(each.model): held[part].file for part, each in settings.items()}

    def rows(self) -> Iterator[Row]:
        """In the order in which the rules run."""
        trained = {name: settings for name, settings in self.methods.items() if settings.trains}
        if any(settings.preferences == "sampled" for settings in trained.values()):
            yield self._drawn("sample", self.drawn_to_train, self.sampling.shards)
            yield from self._score()
        for name, settings in trained.items():
            yield self._train(name, settings)
        for name, settings in self.methods.items():
            yield self._evaluate(name, settings)

    def training(self, method: str) -> TrainingPlan:
        """What training by a method takes."""
        settings, prompts = self.methods[method], self.counts.get("train", 0)
        is_all = settings.preferences == "sampled" and settings.pairs == "all"
        used = self.drawn_to_train if is_all else 2 * prompts
        return TrainingPlan(self.rehearsal, settings, prompts, used, self.processes)

    def _judges(self, where: str) -> Iterator[tuple[str, Judging]]:
        """The models that score, by their sections of the configuration."""
        system, painters, tokens = self.rehearsal.system, self.rehearsal.diffusion_models, []
        images = sum(node.component in painters for node in system.nodes if node.name in system.outputs)
        for inputs in (self.rehearsal.typical, self.rehearsal.longest):
            values = trajectories(system, inputs, 1)
            texts = [{"content": str(values[name][0])} for name in (*system.inputs, *system.outputs)]
            tokens.append(len(CountingTokenizer().apply_chat_template(texts)))
        for section, judge in self.benchmark.judges().items() if isinstance(self.benchmark, Planned) else ():
            network = weightless_judge(config_folder(judge.model, f"{where}.{section}.model"), judge.dtype)
            if network is not None:
                yield section, Judging(network, judge, tokens=(tokens[0], tokens[1]), images=images)

    def _row(self, rule: str, jobs: int, usage: Usage, peak: float, **more: Any) -> Row:
        return Row(self.name, rule, jobs, usage, peak, self.weights, self.parameters, **more)

    def _drawn(self, rule: str, count: int, jobs: int) -> Row:
        """So many trajectories for each seed, in so many jobs."""
        usage, disk, rows, system = NOTHING, 0.0, self.seeds * count, self.rehearsal.system
        for node in system.nodes if count else ():
            component = system.components[node.component]
            if isinstance(component, LanguageModel):
                disk += rows * component.max_new_tokens * BYTES_A_TOKEN
            elif isinstance(component, DiffusionModel):
                disk += rows * math.prod(image_size(component)) * BYTES_A_PIXEL
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
        # A round after the first starts from fresh trajectories, scored.
        sampled = self._drawn("sample", self.drawn_to_train, self.sampling.shards)
        for fresh in (sampled, *self._score()) if settings.rounds > 1 else ():
            usage = usage + replace(fresh.usage, tokens=0, images=0).times(settings.rounds - 1)
            both = fresh.peak_bytes + (self.weights if fresh.rule == "score" else 0.0)
            peak = max(peak, plan.reference_bytes + both)
        sizes = {"trained": plan.trainable, "reference_bytes": plan.reference_bytes, "gpus": self.processes}
        disk = self.seeds * FLOAT * plan.trainable
        return self._row(f"train {name}", self.seeds, usage, peak, disk_bytes=disk, **sizes)

    def _evaluate(self, name: str, settings: MethodSettings) -> Row:
        """Sampling, scoring, and the drift from the reference of what is kept."""
        kept, jobs = self.counts.get("test", 0) * self.evaluation.samples_per_prompt, self.evaluation.shards
        row = self._drawn(f"evaluate {name}", kept * settings.best_of, jobs)
        beside, peak = NOTHING, 0.0
        if self.evaluation.greedy:
            beside = self._drawn("greedy", self.counts.get("test", 0), jobs).usage
        for section, judge in self.judges.items():  # one after the other, each given back before the next
            judged = judge.usage(kept * (settings.best_of if section == "scorer" else 1) / jobs)
            beside, peak = beside + judged.times(self.seeds * jobs), max(peak, judge.weights + judged.peak)
        for part, component in self.rehearsal.system.components.items() if kept else ():
            if isinstance(component, (LanguageModel, DiffusionModel)):
                nodes = sum(node.component == part for node in self.rehearsal.system.nodes)
                rows = min(DRIFT_ROWS, max(1, component.batch_size // nodes), math.ceil(kept / jobs))
                drift = self.rehearsal.drift(part, rows)
                beside, peak = beside + drift.times(self.seeds * kept / rows), max(peak, drift.peak)
        usage = row.usage + replace(beside, tokens=0, images=0)
        peak, disk = max(row.peak_bytes, self.weights + peak), row.disk_bytes / settings.best_of
        return replace(row, usage=usage, peak_bytes=peak, reference_bytes=0, disk_bytes=disk)


def plan_systems(config: Config, **settings: Any) -> tuple[list[Row], list[SystemPlan], list[str]]:
    """The rows of every system, the systems that are planned, and the others' names.

    A system without models, or with one of the workflow's own making, takes minutes. Settings as `SystemPlan`'s.
    """

    def takes_minutes(name: str) -> bool:
        models = loaded(load_benchmark(name, system_config(config, name)))
        return not models or any(each.model is None for each in models.values())

    made = [name for name in config["systems"] if takes_minutes(name)]
    systems = [SystemPlan(config, name, **settings) for name in config["systems"] if name not in made]
    return [row for system in systems for row in system.rows()], systems, made
