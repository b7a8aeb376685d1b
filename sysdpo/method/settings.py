"""What a configuration says of methods: what they learn from, and how."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sysdpo.base.settings import (
    Count,
    MethodName,
    Name,
    NotNegative,
    Positive,
    SetOf,
    Settings,
    Whole,
    WrongSetting,
    one_of,
)
from sysdpo.method.candidates import CandidateSettings
from sysdpo.method.objectives import LINKS, OBJECTIVES, ONLY

METHOD_WITHOUT_EFFECT = ("micro_batch_size", "best_of", "monitor_every", "label", "meaning", "role")
"""Settings of a method that change nothing of what it trains, rounding aside."""
SYSTEM_WITHOUT_EFFECT = ("batch_size", "gradient_checkpointing", "sharded", "shards")
"""Settings of a system's components and other sections that change nothing of what they make, rounding aside."""

ROLES = ("subject", "rival", "control")

NOTHING = "none"
"""The objective of a method that trains nothing."""


class Sampling(Settings):
    """How many trajectories are sampled for each prompt, in how many jobs."""

    samples_per_prompt: Count
    """Trajectories for every prompt."""
    shards: Count = 1
    """The jobs that share the work."""


class TrainingTrajectories(Sampling):
    """What preferences are made from."""

    samples_per_prompt: Annotated[int, Field(ge=2, le=10**7)]
    """Trajectories for every training prompt; pairs need two."""


class Evaluation(Sampling):
    """How held-out prompts are used."""

    greedy: SetOf[Name] = ()
    """The metrics that are measured once more under greedy decoding, as `{metric}_greedy`."""
    win_rates_against: SetOf[MethodName] = ()
    """The methods whose outputs every method's are compared with, prompt by prompt, as `win_rate_vs_{method}`."""


class MethodSettings(Settings):
    """One method: a row of `methods`, laid over `training`."""

    objective: Annotated[str, Field(examples=[NOTHING, *OBJECTIVES, f"{ONLY}<component>"])]
    """The loss, by name; `none` trains nothing, `only_<component>` trains that component alone, `likelihood` has no
    preference term."""
    learning_rate: Annotated[Mapping[str, Positive], Field(min_length=1)]
    """Peak learning rate of each component."""
    chosen_weight: Annotated[Mapping[str, NotNegative], Field(min_length=1)]
    """The weight of `−log p(chosen)`, which is added to the preference term, for each component; 0, the default, adds
    nothing."""
    chosen_intermediates: Literal["known", "hidden"] | None = None
    """The intermediates in that likelihood: `known`, those of the chosen trajectory, or `hidden`, summed over
    candidates from the policy as `sampling` does; null treats them as the preference term does."""
    components: SetOf[Name] = ()
    """The components that are trained, of those that the objective trains; empty is all of them. The others stay as
    they are, but take part in sums over hidden intermediates."""
    beta: Positive = 0.5
    """Inverse temperature of the preference; higher keeps closer to the reference."""
    link: Annotated[str, Field(examples=list(LINKS))] = "sigmoid"
    """The loss on a margin, by name."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The share of labels taken to be wrong, for the links `conservative` and `robust`."""
    length_normalized: bool = False
    """Whether a component's log-ratio is divided by its number of generated tokens before it becomes a margin, as in
    TRL's IPO; values without tokens, such as pictures, are left as they are. Beta is then per token."""
    steps: Count = 100
    """Updates in a round."""
    batch_size: Count = 32
    """Pairs in an update, over all processes."""
    micro_batch_size: Count | None = None
    """Pairs that a process takes through the models at once; the gradients of an update are added up. Null is all of
    its share."""
    warmup_steps: Whole = 10
    """Updates over which the learning rate rises to its peak."""
    max_grad_norm: Positive = 1.0
    """The norm that each component's gradient is clipped to."""
    preferences: Literal["sampled", "dataset"] = "sampled"
    """`sampled` from the system and scored, or those of the `dataset`: whole trajectories, or final outputs alone,
    which are enough for objectives with hidden intermediates."""
    pairs: Literal["all", "random", "best_worst"] = "all"
    """Which of the untied pairs are used."""
    labels: Literal["deterministic", "bradley_terry", "random"] = "deterministic"
    """Which trajectory of a pair wins: the one with the higher score, a draw by Bradley-Terry, or a random one."""
    label_temperature: Positive = 0.2
    """Temperature of the Bradley-Terry labels, in units of the score."""
    noise_bank: Count = 4
    """How many Monte-Carlo draws each pair has; passes over the pairs use them in turn."""
    rounds: Count = 1
    """How often trajectories are sampled from the system as trained so far."""
    best_of: Count = 1
    """Trajectories drawn for every answer; the one with the highest score is kept."""
    take: Mapping[str, MethodName] = Field(default_factory=dict)
    """For the objective `none`: the method from whose training each component is taken (the swap test)."""
    monitor_every: Whole = 0
    """Updates between two measurements of entropy and KL divergence of what the policy draws, and of the cosine between
    the gradients of `direct` and `separate`; 0 is never. The training is the same with and without."""
    eval_every: Whole = 0
    """Updates between two measurements of the preference accuracy on held-out pairs, those of the validation prompts of
    a data set with preferences; 0 is never."""
    early_stopping: Count | None = None
    """The measurements in a row without a new best after which a round ends; the best adapters are kept. Null trains
    to the end and keeps the last."""
    candidates: CandidateSettings = CandidateSettings()
    """How the sum over hidden intermediates is approximated."""
    label: Annotated[str, Field(min_length=1)] | None = None
    """The row's name in tables and figures; null derives it from the other settings."""
    meaning: Annotated[str, Field(min_length=1)] | None = None
    """What the row does, a sentence; null derives it from the other settings."""
    role: Literal["subject", "rival", "control"] | None = None
    """Highlighted (`subject`), the main baseline of those (`rival`), or a control; null derives it."""

    @model_validator(mode="before")
    @classmethod
    def _without_likelihood(cls, values: Any) -> Any:
        """A weight of 0 for every component if no `chosen_weight` is given."""
        if (
            isinstance(values, Mapping)
            and "chosen_weight" not in values
            and isinstance(values.get("learning_rate"), Mapping)
        ):
            return {**values, "chosen_weight": dict.fromkeys(values["learning_rate"], 0.0)}
        return values

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        one_of("link", self.link, list(LINKS))
        one_of(
            "objective", self.objective, sorted([NOTHING, *OBJECTIVES, *(ONLY + name for name in self.learning_rate)])
        )
        if differing := sorted(set(self.learning_rate) ^ set(self.chosen_weight)):
            raise WrongSetting(
                ("chosen_weight",),
                f"{sorted(self.chosen_weight)} should name the components of learning_rate; {differing} differ",
            )
        if self.components and self.objective.startswith(ONLY):
            raise WrongSetting(
                ("components",), f"{list(self.components)} should be empty for the objective '{self.objective}'"
            )
        for name in self.components:
            one_of("components", name, sorted(self.learning_rate))
        if self._own == "hidden" and self.chosen_intermediates == "known":
            raise WrongSetting(
                ("chosen_intermediates",), f"'known' should be 'hidden' for the objective '{self.objective}'"
            )
        if self.preferences == "dataset" and self.rounds > 1:
            raise WrongSetting(
                ("rounds",),
                f"{self.rounds} should be 1 where preferences are those of the dataset, which later rounds cannot "
                "sample anew",
            )
        if self.early_stopping is not None and not self.eval_every:
            raise WrongSetting(
                ("early_stopping",), f"{self.early_stopping} should be null, or eval_every above 0 for it to look at"
            )
        if self.length_normalized and self._own == "hidden":
            raise WrongSetting(
                ("length_normalized",),
                f"true should be false for the objective '{self.objective}', whose sums are over values of different "
                "lengths",
            )
        if self.trains and not self.has_preference and not any(self.chosen_weight.values()):
            raise WrongSetting(
                ("chosen_weight",),
                f"{dict(self.chosen_weight)} should be above 0 for the objective '{self.objective}', which is nothing "
                "else",
            )
        if self.take and self.trains:
            raise WrongSetting(("take",), f"{dict(self.take)} should be empty for the objective '{self.objective}'")
        return self

    def trained(self, trainable: Sequence[str]) -> list[str]:
        """Which of a system's trainable components are trained, in their order."""
        every = [self.objective.removeprefix(ONLY)] if self.objective.startswith(ONLY) else list(trainable)
        return [name for name in every if not self.components or name in self.components]

    @property
    def _own(self) -> str:
        """How the preference term treats intermediates: `known` or `hidden`."""
        return OBJECTIVES[self.objective].intermediates if self.objective in OBJECTIVES else "known"

    @property
    def has_preference(self) -> bool:
        """Whether the loss has a preference term."""
        return self.objective not in OBJECTIVES or OBJECTIVES[self.objective].has_preference

    @property
    def intermediates(self) -> set[str]:
        """Whether a training uses the trajectories' intermediates (`known`), sums over them (`hidden`), or both."""
        chosen = self.chosen_intermediates or self._own
        if not self.has_preference:
            return {chosen}
        return {self._own, chosen} if any(self.chosen_weight.values()) else {self._own}

    def trainings(self, method: str) -> list[str]:
        """The methods whose trainings an evaluation of this one needs.

        method: its own name.
        """
        return [method] if self.trains else list(dict.fromkeys(self.take.values()))

    @property
    def trains(self) -> bool:
        """Whether there is anything to train."""
        return self.objective != NOTHING
