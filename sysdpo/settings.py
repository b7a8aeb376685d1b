"""The settings of methods and estimators, typed: a mistake is one sentence. No model library is imported here."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sysdpo.errors import UserError

Settings = TypeVar("Settings")

LINKS = ("sigmoid", "ipo", "hinge", "conservative", "robust")
PREFERENCES = ("sampled", "given")
PAIRS = ("all", "random", "best_worst")
LABELS = ("deterministic", "bradley_terry", "random")
GENERATORS = ("diverse_beam", "beam", "ancestral", "nucleus")
MARGINALS = ("truncated", "importance", "single")


@dataclass(frozen=True)
class LanguageModelSettings:
    """A language model as a component: `model` a hub id or folder (None: the foundation model made for it), the rest as
    `LanguageModel` has it. The folder may hold an adapter of PEFT, which is merged into its base model.

    revision: of the hub id, a commit or tag.
    template: the prompt, `{0}` the node's first input, `{1}` its second (None: the system's own).
    system_prompt: the chat's system message, a template of the same inputs; none where it comes out empty.
    chat_template_kwargs: what the model's chat template is told besides, `enable_thinking: false` say. A template that
        writes today's date (Llama 3.2's does) makes a run depend on the day, unless `date_string` is given here.
    max_new_tokens: of a completion; together with the prompt no more than the model has positions for.
    load_in_4bit: the frozen weights in four bits (NF4, by bitsandbytes; Dettmers et al., arXiv 2305.14314).
    gradient_checkpointing: activations are computed again in the backward pass instead of kept.
    sharded: the frozen weights are split over the processes of a training (FSDP); adapters stay whole.
    """

    lora: Mapping[str, Any]
    model: str | None = None
    revision: str | None = None
    template: str | None = None
    system_prompt: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 64
    temperature: float = 1.0
    batch_size: int = 256
    dtype: str = "float32"
    load_in_4bit: bool = False
    gradient_checkpointing: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class DiffusionSettings:
    """A diffusion model as a component: `model` a hub id or folder (None: the foundation model made for it).

    The rest is as `DiffusionModel` has it.

    pipeline: the class to load with, as `module:name`. variant: of the weight files, `fp16` say. sampling: in the words
    of the pipeline's call; its `guidance_scale` bends what is drawn and not what is trained, which is the likelihood of
    a picture under its prompt alone, as in Diffusion-DPO. The others as `LanguageModelSettings` has them.
    """

    lora: Mapping[str, Any]
    model: str | None = None
    revision: str | None = None
    variant: str | None = None
    pipeline: str = "diffusers:DiffusionPipeline"
    sampling: Mapping[str, Any] = field(default_factory=dict)
    estimator: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 128
    dtype: str = "float32"
    gradient_checkpointing: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class Estimator:
    """How the bound is estimated.

    weighting: `simple`, a constant `omega` on the error's mean over elements (Diffusion-DPO's), or `elbo`, the
        variational bound's own weight on its sum over elements: the bound's integral over `noise_range`, in nats
        (`omega` scales it).
    draws: shared `(t, ε)` a row, averaged.
    antithetic: every second draw repeats the timestep of the one before with its noise negated.
    noise_range: the part of the schedule that timesteps are drawn from, 0 its cleanest and 1 its noisiest end.
        Our choice: what a picture shows is decided where there is much noise; elsewhere a draw is mostly variance.
    """

    weighting: str = "simple"
    omega: float = 1.0
    draws: int = 1
    antithetic: bool = False
    noise_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.weighting not in ("simple", "elbo"):
            raise UserError(f"estimator.weighting: '{self.weighting}' should be 'simple' or 'elbo'")
        if not 0 <= self.noise_range[0] < self.noise_range[1] <= 1:
            raise UserError(f"estimator.noise_range: {self.noise_range} should be two rising numbers in [0, 1]")


@dataclass(frozen=True)
class CandidateSettings:
    """How the sum over hidden intermediates is approximated (Wang et al., arXiv 2502.17721, SysDPO-Sampling).

    estimator: `truncated`, the paper's sum of `p(y|x) p(z|x,y)` over distinct candidates, a lower bound of the
        marginal; `importance`, the mean of `p(y|x) p(z|x,y) / g(y|x)` over draws from `g`, unbiased for the marginal
        but not for its logarithm; `single`, `p(z|x,y)` at one ancestral draw.
    count: candidates a prompt.
    generator: `diverse_beam` (Vijayakumar et al., arXiv 1610.02424), `beam`, `ancestral` (draws at `temperature`) or
        `nucleus` (draws at `temperature` from the smallest set of tokens whose probability reaches `top_p`).
    groups: of diverse beams, a divisor of `count`; None is a group for each candidate.
    diversity: what a token costs a beam for each earlier group that took it at the same step, in nats.
    length_penalty: finished beams are ranked by `log p / length^length_penalty`; 0 ranks by probability.
    refresh: updates between two generations of candidates, which come from the policy as it then is.
    """

    estimator: str = "truncated"
    count: int = 4
    generator: str = "diverse_beam"
    groups: int | None = None
    diversity: float = 0.5
    length_penalty: float = 0.0
    temperature: float = 1.0
    top_p: float = 0.9
    refresh: int = 4

    def __post_init__(self) -> None:
        one_of("candidates.estimator", self.estimator, MARGINALS)
        one_of("candidates.generator", self.generator, GENERATORS)
        for name in ("count", "refresh"):
            at_least(f"candidates.{name}", getattr(self, name), 1)
        if self.groups is not None and (self.groups < 1 or self.count % self.groups):
            raise UserError(f"candidates.groups: {self.groups} should be a divisor of candidates.count ({self.count})")
        if self.diversity < 0:
            raise UserError(f"candidates.diversity: {self.diversity} should be at least 0")
        if self.temperature <= 0:
            raise UserError(f"candidates.temperature: {self.temperature} should be above 0")
        if not 0 < self.top_p <= 1:
            raise UserError(f"candidates.top_p: {self.top_p} should be above 0 and at most 1")
        if self.estimator != "truncated" and self.generator != "ancestral":
            raise UserError(
                f"candidates.generator: '{self.generator}' should be 'ancestral' where candidates.estimator is "
                f"'{self.estimator}', which divides by the probability of a draw that any intermediate can be"
            )
        if self.estimator == "single" and (self.count != 1 or self.temperature != 1):
            raise UserError(
                f"candidates.count: {self.count} should be 1, at candidates.temperature 1, for the estimator 'single'"
            )


@dataclass(frozen=True)
class Sampling:
    """`trajectories`: how many are sampled for each prompt, in how many jobs."""

    samples_per_prompt: int
    shards: int = 1

    def __post_init__(self) -> None:
        at_least("samples_per_prompt", self.samples_per_prompt, 1)
        at_least("shards", self.shards, 1)


@dataclass(frozen=True)
class Evaluation(Sampling):
    """`evaluation`: how held-out prompts are used.

    greedy: the metrics that are also measured under greedy decoding, as `{metric}_greedy`.
    win_rates_against: the methods whose outputs every method's are compared with, as `win_rate_vs_{method}`.
    """

    greedy: tuple[str, ...] = ()
    win_rates_against: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodSettings:
    """One method: a row of `methods`, merged over `training`.

    objective: `none` (train nothing), `direct`, `sampling`, `separate`, `chosen_only` or `only_<component>`.
    best_of: how many trajectories an answer is picked from, by score.
    steps: updates a round; batch_size: pairs an update, over all processes; micro_batch_size: pairs a process takes
        through the models at once (None: all of its share), the gradients of the rest being added up.
    beta: inverse temperature of the preference; link, label_smoothing: the loss on a margin.
    learning_rate, chosen_weight: for each component; the latter weighs `−log p(chosen)`.
    preferences: `sampled` from the system and scored, or `given` with the prompts as final outputs alone.
    pairs, labels, label_temperature: which pairs are used and who is called their winner.
    noise_bank: how many Monte-Carlo draws a pair has, used in turn in the passes over the pairs.
    rounds: how often fresh trajectories are sampled from the system as trained so far.
    candidates: how `sampling` sums over what is hidden, see `CandidateSettings`.
    """

    objective: str
    learning_rate: Mapping[str, float]
    chosen_weight: Mapping[str, float]
    beta: float = 0.5
    link: str = "sigmoid"
    label_smoothing: float = 0.0
    steps: int = 100
    batch_size: int = 32
    micro_batch_size: int | None = None
    warmup_steps: int = 10
    max_grad_norm: float = 1.0
    preferences: str = "sampled"
    pairs: str = "all"
    labels: str = "deterministic"
    label_temperature: float = 0.2
    noise_bank: int = 4
    rounds: int = 1
    best_of: int = 1
    candidates: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("link", self.link, LINKS)
        one_of("preferences", self.preferences, PREFERENCES)
        one_of("pairs", self.pairs, PAIRS)
        one_of("labels", self.labels, LABELS)
        for name in ("steps", "batch_size", "noise_bank", "rounds", "best_of"):
            at_least(name, getattr(self, name), 1)
        if self.micro_batch_size is not None:
            at_least("micro_batch_size", self.micro_batch_size, 1)
        if self.preferences == "given" and (self.objective != "sampling" or self.rounds > 1):
            raise UserError(
                f"preferences: 'given' are final outputs alone, for one round of the objective 'sampling'; here are "
                f"{self.rounds} of '{self.objective}'"
            )
        if self.beta <= 0:
            raise UserError(f"beta: {self.beta} should be above 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise UserError(f"label_smoothing: {self.label_smoothing} should be at least 0 and below 0.5")
        known = {
            "none",
            "direct",
            "sampling",
            "separate",
            "chosen_only",
            *(f"only_{name}" for name in self.learning_rate),
        }
        one_of("objective", self.objective, sorted(known))
        if missing := sorted(set(self.learning_rate) ^ set(self.chosen_weight)):
            raise UserError(f"learning_rate and chosen_weight should name the same components; {missing} differ")
        _ = self.candidate_settings

    @property
    def candidate_settings(self) -> CandidateSettings:
        """`candidates`, typed."""
        return typed(CandidateSettings, self.candidates, "candidates")

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.objective != "none"


def typed(cls: type[Settings], values: Mapping[str, Any] | None, where: str) -> Settings:
    """`cls(**values)` for a dataclass; raises `UserError` on an unknown, missing or mistyped key."""
    values = dict(values or {})
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(f"{where}: unknown key {unknown}; known are {sorted(fields)}")
    hints = typing.get_type_hints(cls)
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = value = tuple(value)
        if not _fits(value, hints[name]):
            wanted = getattr(hints[name], "__name__", str(hints[name]))
            raise UserError(f"{where}.{name}: {value!r} should be of type {wanted}")
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(values)):
        raise UserError(f"{where}: the keys {missing} are missing")
    return cls(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint) or hint
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in typing.get_args(hint))
    if origin is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if origin is Mapping and typing.get_args(hint):
        return isinstance(value, Mapping) and all(_fits(each, typing.get_args(hint)[1]) for each in value.values())
    if origin is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin)


def one_of(name: str, value: str, known: typing.Collection[str]) -> None:
    if value not in known:
        raise UserError(f"{name}: '{value}' should be one of {list(known)}")


def at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{name}: {value} should be at least {least}")
