"""What each rule of the workflow takes, a row for each rule and method."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sysdpo.base.settings import typed
from sysdpo.method.benchmark import load_benchmark
from sysdpo.method.config import Config, evaluation_settings, method_settings, system_config
from sysdpo.method.settings import MethodSettings, Sampling
from sysdpo.plan.components import component_plans
from sysdpo.plan.diffusion import DiffusionPlan
from sysdpo.plan.foundation import made_models, says_of
from sysdpo.plan.language import LanguagePlan
from sysdpo.plan.lengths import Texts, inputs_of, known_prompts
from sysdpo.plan.meter import NOTHING, Usage
from sysdpo.plan.models import networks_of, parameters, trainable, weight_bytes
from sysdpo.plan.repeats import Repeats
from sysdpo.plan.scoring import ScoringPlan
from sysdpo.plan.training import FLOAT, Data, TrainingPlan

DRIFT_ROWS = 128  # trajectories at once, as `sysdpo.method.evaluation.drift` has it
OTHERS = "other jobs"
BYTES_A_TOKEN = 12  # of text, and of its number
BYTES_A_PIXEL = 2.4  # of a PNG file: what our default pictures take, and about what photographs do


@dataclass(frozen=True)
class Row:
    """Jobs of one rule, all seeds and parts together; `memory` and `weights` are of one process, of which a job has one
    on each of its `gpus`; the numbers of weights are of one job.

    reference: bytes of a second model or adapter, None where there is no reference. tokens: read or written. images:
    drawn, denoised or scored.
    """

    system: str
    rule: str
    jobs: int
    gpus: int = 1
    usage: Usage = NOTHING
    memory: float = 0.0
    weights: float = 0.0
    parameters: int = 0
    trainable: int = 0
    reference: int | None = None
    tokens: float = 0.0
    images: float = 0.0
    disk: float = 0.0


class SystemPlan:
    """One system. `processes` share each training; `assumed` is the length of inputs that are not here, in tokens."""

    def __init__(self, config: Config, name: str, *, processes: int = 1, assumed: int = 256):
        config = config | {"experiments": {}}  # whose grids are no part of it
        self.name, self.processes, self.seeds = name, processes, len(config["seeds"])
        self.described = system_config(config, name)
        where = f"systems.{name}"
        self.benchmark = load_benchmark(name, self.described)
        self.made = made_models(self.benchmark, self.described)
        prompts = known_prompts(self.benchmark, self.described)
        inputs = inputs_of(self.benchmark, prompts, self.described, assumed)
        self.texts = Texts(self.benchmark, self.made, inputs)
        self.components = component_plans(self.benchmark, self.made, self.texts, where)
        asked: list[Any] = [dict.fromkeys(inputs)]
        if prompts is not None:
            asked = prompts.query("split == 'train'").to_dict("records")
        self.repeats = Repeats(self.benchmark.nodes, says_of(self.benchmark, self.made), asked)
        self.sampling = typed(Sampling, self.described["trajectories"], f"{where}.trajectories")
        self.evaluation = evaluation_settings(self.described, name)
        self.methods = {method: method_settings(config, name, method) for method in self.described["methods"]}
        self.scorer, self.judge = self._judge("scorer"), self._judge("judge")
        self.has_prompts = prompts is not None
        self.parameters = sum(part.parameters for part in self.components.values())
        self.weights = sum(part.weights for part in self.components.values())

    def rows(self) -> Iterator[Row]:
        """In the order in which the rules run."""
        trained = {name: settings for name, settings in self.methods.items() if settings.trains}
        kinds = {settings.preferences for settings in trained.values()}
        yield from self._foundation()
        if "sampled" in kinds:
            yield from (self._sample(), self._score())
        if "given" in kinds:
            yield Row(self.name, "given", 1)
        for name, settings in trained.items():
            yield self._train(name, settings)
        for name, settings in self.methods.items():
            yield self._evaluate(name, settings)
        yield Row(self.name, OTHERS, self._other_jobs("sampled" in kinds))

    @property
    def language_models(self) -> dict[str, LanguagePlan]:
        """Those of its components that are."""
        return {name: part for name, part in self.components.items() if isinstance(part, LanguagePlan)}

    @property
    def models(self) -> dict[str, float]:
        """The bytes of the files of models that are not made here, in the number format they are loaded in."""
        settings = {name: settings for name, settings in self.benchmark.components.items() if settings.model}
        sizes = {str(each.model): float(self.components[name].stored) for name, each in settings.items()}
        for section, judge in (("scorer", self.scorer), ("judge", self.judge)):
            if judge is not None and self.described.get(section):
                sizes[self.described[section]["model"]] = judge.weights
        return sizes

    def _count(self, split: str) -> int:
        return int((self.described.get("prompts") or {}).get(split, 0))

    def _foundation(self) -> Iterator[Row]:
        wanted = [name for name in self.made if name in (self.described.get("foundation") or {})]
        for name in wanted:
            made = self.made[name]
            usage, memory = made.making()
            networks = networks_of(made.build())
            yield Row(
                system=self.name,
                rule=f"foundation {name}",
                jobs=self.seeds,
                usage=usage.times(self.seeds),
                memory=memory,
                weights=weight_bytes(*networks),
                parameters=parameters(*networks),
                trainable=trainable(*networks) if made.loss else 0,
                tokens=self.seeds * made.steps * made.rows * made.tokens,
                images=self.seeds * made.steps * made.rows if made.size else 0,
                disk=self.seeds * weight_bytes(*networks),
            )
        if wanted:
            # What is measured differs from world to world: a trajectory for each validation prompt stands for it.
            yield replace(self._drawn("inspect", self._count("validation"), 1), jobs=self.seeds, disk=0.0)

    def _drawn(self, rule: str, trajectories: int, jobs: int) -> Row:
        """So many trajectories for each seed, in so many jobs."""
        seeds = self.seeds
        usage, peak = NOTHING, 0.0
        tokens = images = disk = 0.0
        for part, nodes in self._parts():
            drawn = part.sampling(trajectories / jobs)
            usage, peak = usage + drawn.times(seeds * jobs * nodes), max(peak, drawn.peak)
            rows = seeds * trajectories * nodes
            if isinstance(part, DiffusionPlan):
                images += rows
                disk += rows * part.size[0] * part.size[1] * BYTES_A_PIXEL
            else:
                tokens += rows * part.tokens
                disk += rows * part.typical.completion * BYTES_A_TOKEN
        return Row(
            system=self.name,
            rule=rule,
            jobs=seeds * jobs,
            usage=usage,
            memory=self.weights + peak,
            weights=self.weights,
            parameters=self.parameters,
            tokens=tokens,
            images=images,
            disk=disk,
        )

    def _parts(self) -> Iterator[tuple[LanguagePlan | DiffusionPlan, int]]:
        """Each model, and how many variables of a trajectory it generates."""
        for name, part in self.components.items():
            yield part, sum(node.component == name for node in self.benchmark.nodes)

    @property
    def _trajectories(self) -> int:
        return self._count("train") * self.sampling.samples_per_prompt

    def _sample(self) -> Row:
        return self._drawn("sample", self._trajectories, self.sampling.shards)

    def _judge(self, section: str) -> ScoringPlan | None:
        """The model that scores trajectories, or a second one; None where none does."""
        described = self.described.get(section) or {}
        if settings := getattr(self.benchmark, section, None):
            described = vars(settings)  # with what the configuration leaves out
        images = sum(nodes for part, nodes in self._parts() if isinstance(part, DiffusionPlan))
        if described.get("model"):
            tokens = self.texts.conversation(typical=True), self.texts.conversation(typical=False)
            return ScoringPlan.of(described, f"systems.{self.name}.{section}", images=images, tokens=tokens)
        if section == "scorer" and "regressor" in self.made:
            made = self.made["regressor"]
            return ScoringPlan(made.build(), images=images, size=made.size or 0, batch_size=512)
        return None

    def _score(self) -> Row:
        row = Row(self.name, "score", self.seeds, disk=self.seeds * self._trajectories * 40)
        if self.scorer is None:
            return row
        usage = self.scorer.judging(self._trajectories)
        return replace(
            row,
            usage=usage.times(self.seeds),
            memory=self.scorer.weights + usage.peak,
            weights=self.scorer.weights,
            parameters=self.scorer.parameters,
            tokens=self.seeds * self._trajectories * self.scorer.tokens,
            images=self.seeds * self._trajectories * self.scorer.images if self.scorer.judges_images else 0,
        )

    def _data(self, settings: MethodSettings) -> Data:
        prompts, samples = self._count("train"), self.sampling.samples_per_prompt
        if settings.preferences == "given" or settings.pairs != "all":
            return Data(prompts, 2, prompts)
        return Data(prompts, samples, prompts * samples * (samples - 1) // 2)

    def training(self, method: str) -> TrainingPlan:
        """What training by a method takes."""
        settings = self.methods[method]
        return TrainingPlan(self.components, self.repeats, settings, self._data(settings), self.processes)

    def _train(self, name: str, settings: MethodSettings) -> Row:
        plan = self.training(name)
        again = settings.rounds - 1  # a round after the first starts from fresh trajectories, scored
        usage, memory = plan.usage().times(self.seeds * settings.rounds), plan.memory()
        if again:
            fresh, scored = self._sample(), self._score()
            usage = usage + (fresh.usage + scored.usage).times(again)
            memory = max(memory, plan.reference_bytes + max(fresh.memory, self.weights + scored.memory))
        return Row(
            system=self.name,
            rule=f"train {name}",
            jobs=self.seeds,
            gpus=self.processes,
            usage=usage,
            memory=memory,
            weights=self.weights,
            parameters=self.parameters,
            trainable=plan.trainable,
            reference=plan.reference_bytes,
            tokens=self.seeds * settings.rounds * plan.tokens(),
            images=self.seeds * settings.rounds * plan.images(),
            disk=self.seeds * FLOAT * plan.trainable,
        )

    def _evaluate(self, name: str, settings: MethodSettings) -> Row:
        """Sampling, scoring, and the drift from the reference of what is kept."""
        kept = self._count("test") * self.evaluation.samples_per_prompt
        jobs = self.evaluation.shards
        row = self._drawn(f"evaluate {name}", kept * settings.best_of, jobs)
        usage, disk = row.usage, row.disk / settings.best_of
        if self.evaluation.greedy:
            usage = usage + self._drawn("greedy", self._count("test"), jobs).usage
        judged, judges = NOTHING, 0.0  # one after the other, each given back before the next
        for judge, count in ((self.scorer, kept * settings.best_of), (self.judge, kept)):
            if judge is not None:
                judged = judged + judge.judging(count / jobs)
                judges = max(judges, judge.weights + judge.judging(count / jobs).peak)
        drift = NOTHING
        for part, nodes in self._parts():
            rows = min(DRIFT_ROWS, max(1, part.batch_size // nodes), kept / jobs)
            drift = drift + part.likelihood(rows * nodes).times(kept / jobs / rows if rows else 0)
        usage = usage + (judged + drift).times(self.seeds * jobs)
        memory = max(row.memory, self.weights + max(judges, drift.peak))
        return replace(row, usage=usage, memory=memory, reference=0, disk=disk)

    def _other_jobs(self, sampled: bool) -> int:
        """Jobs of seconds, without a model: prompts, pairs, parts put together, tables and figures."""
        gathered = sampled * (self.sampling.shards > 1) + len(self.methods) * (self.evaluation.shards > 1)
        return 3 + len(self.described.get("figures") or ()) + self.seeds * (sampled + gathered)


def plan_systems(config: Config, **settings: Any) -> tuple[list[Row], list[SystemPlan]]:
    """The rows of every system and of what all of them come to, and the systems; settings as `SystemPlan` has them."""
    systems = [SystemPlan(config, name, **settings) for name in config["systems"]]
    study = 2 if "theory" in (config.get("studies") or {}) else 0
    return [*(row for system in systems for row in system.rows()), Row("all systems", OTHERS, 3 + study)], systems
