"""The settings of methods and estimators, typed: a mistake is one sentence. No model library is imported here."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from sysdpo.base.errors import UserError

Settings = TypeVar("Settings")

LARGEST = 10**9
"""No number of a configuration lies further from zero: such a one is a slip."""


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`; without the ends that are `open`."""

    least: float = -LARGEST
    most: float = LARGEST
    open: tuple[bool, bool] = (False, False)

    def __contains__(self, number: float) -> bool:
        low = number > self.least if self.open[0] else number >= self.least
        high = number < self.most if self.open[1] else number <= self.most
        return low and high

    def __str__(self) -> str:
        low = f"{'above' if self.open[0] else 'at least'} {self.least}"
        return f"{low} and {'below' if self.open[1] else 'at most'} {self.most}"


Count = Annotated[int, Range(1, 10**7)]
Whole = Annotated[int, Range(0, 10**7)]
Seed = Annotated[int, Range(0, LARGEST)]
Positive = Annotated[float, Range(0, open=(True, False))]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]

DTYPES = ("float32", "bfloat16", "float16")
LINKS = ("sigmoid", "ipo", "hinge", "conservative", "robust")
PREFERENCES = ("sampled", "given")
INTERMEDIATES = ("known", "hidden")
PAIRS = ("all", "random", "best_worst")
LABELS = ("deterministic", "bradley_terry", "random")
GENERATORS = ("diverse_beam", "beam", "ancestral", "nucleus")
MARGINALS = ("truncated", "importance", "single")

ROLES = ("subject", "rival", "control")

METHOD_WITHOUT_EFFECT = ("micro_batch_size", "best_of", "monitor_every", "label", "meaning", "role")
"""Settings of a method that change nothing of what it trains, rounding aside."""
SYSTEM_WITHOUT_EFFECT = ("batch_size", "gradient_checkpointing", "sharded", "shards")
"""Settings of a system's components and other sections that change nothing of what they make, rounding aside."""


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
    max_new_tokens: Count = 64
    temperature: NotNegative = 1.0
    batch_size: Count = 256
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
    batch_size: Count = 128
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
    omega: Positive = 1.0
    draws: Count = 1
    antithetic: bool = False
    noise_range: tuple[Share, Share] = (0.0, 1.0)

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
    count: Count = 4
    generator: str = "diverse_beam"
    groups: Count | None = None
    diversity: NotNegative = 0.5
    length_penalty: Annotated[float, Range(-100, 100)] = 0.0
    temperature: Positive = 1.0
    top_p: Annotated[float, Range(0, 1, open=(True, False))] = 0.9
    refresh: Count = 4

    def __post_init__(self) -> None:
        one_of("candidates.estimator", self.estimator, MARGINALS)
        one_of("candidates.generator", self.generator, GENERATORS)
        if self.groups is not None and self.count % self.groups:
            raise UserError(f"candidates.groups: {self.groups} should be a divisor of candidates.count ({self.count})")
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

    samples_per_prompt: Count
    shards: Count = 1


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

    objective: `none` (train nothing), `direct`, `sampling`, `separate`, `only_<component>`, or `likelihood`, which has
        no preference term.
    best_of: how many trajectories an answer is picked from, by score.
    take: for components the method that their adapters come from, where the objective is `none`: the swap test.
    steps: updates a round; batch_size: pairs an update, over all processes; micro_batch_size: pairs a process takes
        through the models at once (None: all of its share), the gradients of the rest being added up.
    beta: inverse temperature of the preference; link, label_smoothing: the loss on a margin.
    length_normalized: whether a component's log-ratio is divided by the tokens it generated before it becomes a margin
        (what has no tokens, a picture, is left as it is), as TRL's IPO has it; beta is then per token.
    learning_rate: for each component.
    chosen_weight: for each component, what `−log p(chosen)` weighs beside the preference term; 0 leaves that alone.
    chosen_intermediates: for that likelihood `known`, the chosen trajectory's own, or `hidden`, summed over candidates
        of the policy's own as `sampling` does. None: as the preference term has them.
    monitor_every: updates between two looks at what the policy draws (its entropy and KL divergence) and at how the
        gradients of `direct` and `separate` lie to each other; 0 is never. The training is the same with and without.
    preferences: `sampled` from the system and scored, or `given` with the prompts as final outputs alone.
    pairs, labels, label_temperature: which pairs are used and who is called their winner.
    noise_bank: how many Monte-Carlo draws a pair has, used in turn in the passes over the pairs.
    rounds: how often fresh trajectories are sampled from the system as trained so far.
    candidates: how `sampling` sums over what is hidden, see `CandidateSettings`.
    label, meaning: what the row is called where it is shown, and what it does. None: as its other settings say.
    role: `subject`, set off from the others; `rival`, the subjects' main baseline; `control`, there to be beaten.
    """

    objective: str
    learning_rate: Mapping[str, Positive]
    chosen_weight: Mapping[str, NotNegative]
    chosen_intermediates: str | None = None
    beta: Positive = 0.5
    link: str = "sigmoid"
    label_smoothing: Annotated[float, Range(0, 0.5, open=(False, True))] = 0.0
    length_normalized: bool = False
    steps: Count = 100
    batch_size: Count = 32
    micro_batch_size: Count | None = None
    warmup_steps: Whole = 10
    max_grad_norm: Positive = 1.0
    preferences: str = "sampled"
    pairs: str = "all"
    labels: str = "deterministic"
    label_temperature: Positive = 0.2
    noise_bank: Count = 4
    rounds: Count = 1
    best_of: Count = 1
    take: Mapping[str, str] = field(default_factory=dict)
    monitor_every: Whole = 0
    candidates: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None
    meaning: str | None = None
    role: str | None = None

    def __post_init__(self) -> None:
        one_of("link", self.link, LINKS)
        one_of("preferences", self.preferences, PREFERENCES)
        one_of("pairs", self.pairs, PAIRS)
        one_of("labels", self.labels, LABELS)
        if self.role is not None:
            one_of("role", self.role, ROLES)
        if self.chosen_intermediates is not None:
            one_of("chosen_intermediates", self.chosen_intermediates, INTERMEDIATES)
        if self.objective == "sampling" and self.chosen_intermediates == "known":
            raise UserError("chosen_intermediates: 'known' should be 'hidden' for the objective 'sampling'")
        if self.preferences == "given" and (self.intermediates != {"hidden"} or self.rounds > 1):
            raise UserError(
                f"preferences: 'given' are final outputs alone, for one round of the objective 'sampling', or of "
                f"'likelihood' with hidden chosen_intermediates; here are {self.rounds} of '{self.objective}'"
            )
        if self.length_normalized and self.objective == "sampling":
            raise UserError(
                "length_normalized: true should be false for the objective 'sampling', whose sums are over values of "
                "different lengths"
            )
        known = {
            "none",
            "direct",
            "sampling",
            "separate",
            "likelihood",
            *(f"only_{name}" for name in self.learning_rate),
        }
        one_of("objective", self.objective, sorted(known))
        if self.objective == "likelihood" and not any(self.chosen_weight.values()):
            raise UserError(
                f"chosen_weight: {dict(self.chosen_weight)} should be above 0 for the objective 'likelihood', which is "
                "nothing else"
            )
        if self.take and self.objective != "none":
            raise UserError(f"take: {dict(self.take)} should be empty for the objective '{self.objective}'")
        if missing := sorted(set(self.learning_rate) ^ set(self.chosen_weight)):
            raise UserError(f"learning_rate and chosen_weight should name the same components; {missing} differ")
        _ = self.candidate_settings

    @property
    def candidate_settings(self) -> CandidateSettings:
        """`candidates`, typed."""
        return typed(CandidateSettings, self.candidates, "candidates")

    @property
    def intermediates(self) -> set[str]:
        """Whether a training looks at the trajectories' intermediates (`known`), sums over them (`hidden`), or both."""
        own = "hidden" if self.objective == "sampling" else "known"
        chosen = self.chosen_intermediates or own
        if self.objective == "likelihood":
            return {chosen}
        return {own, chosen} if any(self.chosen_weight.values()) else {own}

    def trainings(self, method: str) -> list[str]:
        """The methods whose trainings an evaluation of this one needs, its own name being `method`."""
        return [method] if self.trains else list(dict.fromkeys(self.take.values()))

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.objective != "none"


def typed(cls: type[Settings], values: Mapping[str, Any] | None, where: str) -> Settings:
    """`cls(**values)` for a dataclass; raises `UserError` on an unknown, missing or mistyped key, and on a number that
    is not finite or outside of its type's `Range`.
    """
    values = dict(values or {})
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(fields)):
        raise UserError(f"{where}: unknown key {unknown}; known are {sorted(fields)}")
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = value = tuple(value)
        check_value(value, hints[name], f"{where}.{name}")
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(values)):
        raise UserError(f"{where}: the keys {missing} are missing")
    return cls(**values)


def check_value(value: Any, hint: Any, where: str) -> None:
    """Raises `UserError` unless the setting `where` is of this type, and within the type's `Range`."""
    if isinstance(value, Mapping) and _is(hint, Mapping):
        for name, each in value.items():
            check_value(each, (*typing.get_args(hint), Any)[1], f"{where}.{name}")
    elif isinstance(value, tuple) and _is(hint, tuple):
        hints = typing.get_args(hint)
        hints = hints[:1] * len(value) if hints[1:] == (...,) else hints
        if len(value) != len(hints):
            raise UserError(f"{where}: {list(value)} should have {len(hints)} values")
        for place, (each, wanted) in enumerate(zip(value, hints, strict=True)):
            check_value(each, wanted, f"{where}[{place}]")
    elif hint is Any and isinstance(value, (Mapping, list, tuple)):
        named = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, each in named:
            check_value(each, Any, f"{where}.{name}")
    elif wanted := _wanted(value, hint):
        raise UserError(f"{where}: {value!r} should be {wanted}")


def _is(hint: Any, kind: type) -> bool:
    return (typing.get_origin(hint) or hint) is kind


def _wanted(value: Any, hint: Any) -> str | None:
    """What a value of this type should be; None where it is so."""
    kind = typing.get_origin(hint) or hint
    if kind in (typing.Union, types.UnionType):
        wanted = [_wanted(value, each) for each in typing.get_args(hint)]
        return None if None in wanted else " or ".join(map(str, wanted))
    if kind is Annotated:
        hint, *marks = typing.get_args(hint)
        ranges = [mark for mark in marks if isinstance(mark, Range)]
        return _wanted(value, hint) or next((str(mark) for mark in ranges if value not in mark), None)
    if kind is types.NoneType:
        return None if value is None else "null"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in (int, float) and not (is_number and (kind is float or isinstance(value, int))):
        return f"of type {kind.__name__}"
    if kind in (int, float, Any):
        return _wanted_number(value) if is_number else None
    return None if isinstance(value, kind) else f"of type {getattr(kind, '__name__', kind)}"


def _wanted_number(value: float) -> str | None:
    if not math.isfinite(value):
        return "a finite number"
    return None if value in Range() else str(Range())


def without(settings: Mapping[str, Any], names: typing.Collection[str]) -> dict[str, Any]:
    """The settings less those of these names."""
    return {name: value for name, value in settings.items() if name not in names}


def one_of(name: str, value: str, known: typing.Collection[str]) -> None:
    if value not in known:
        raise UserError(f"{name}: '{value}' should be one of {list(known)}")


def at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{name}: {value} should be at least {least}")
