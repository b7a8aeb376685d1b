"""Settings of the studies. No model library is imported here."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sysdpo.base.settings import Count, NotNegative, Positive, Seed, SetOf, SomeOf, WrongSetting
from sysdpo.method.config import Study

TabularSystem = Literal["chain", "fan_out", "fan_in", "diamond", "entangled"]
"""Those of `sysdpo.applications.tabular`, which imports torch."""
Several = Annotated[int, Field(ge=2, le=10**7)]
SomePrompts = Annotated[int, Field(ge=2, le=10**5)]


class Theory(Study, extra="forbid"):
    """Which methods reach β-perfect alignment, and under which conditions."""

    table: ClassVar[str] = "sysdpo.studies.theory:run"
    beta: Positive = 0.5
    """Inverse temperature of the preference."""
    steps: Count = 300
    """Updates of Adam."""
    learning_rate: Positive = 0.1
    """Of Adam, with cosine decay to 0."""
    systems: SomeOf[TabularSystem] = (
        "chain",
        "fan_out",
        "fan_in",
        "diamond",
        "entangled",
    )
    """The systems, by name."""
    shared: SomeOf[bool] = (False, True)
    """Whether two nodes share a component."""
    coverages: SomeOf[Annotated[float, Field(gt=0, le=1)]] = (1.0, 0.9, 0.75, 0.5)
    """Shares of the reference's hidden assignments in the preference data of `direct`, whose Assumption 1 requires all
    of them: the fewest, likeliest ones that reach the share."""
    refresh: Count = 5
    """Updates after which `sampling` chooses the policy's likeliest candidates anew."""
    seed: Seed = 0
    """Seed of the systems' tables and rewards."""


class Gradients(Study, extra="forbid"):
    """Bias and variance of the marginal's gradient."""

    table: ClassVar[str] = "sysdpo.studies.gradients:run"
    systems: SomeOf[TabularSystem | Literal["language"]] = (
        "chain",
        "diamond",
        "language",
    )
    """Tabular systems by name, or `language`, a chain of two tiny language models."""
    counts: SomeOf[Count] = (1, 2, 4, 8)
    """Numbers of candidates."""
    diversities: SetOf[NotNegative] = (0.5, 2.0)
    """Diversities of diverse beam search."""
    temperatures: SetOf[Positive] = (1.0, 2.0)
    """Temperatures of importance sampling's proposal."""
    replicates: Several = 200
    """Independent candidate sets; deterministic generators need one."""
    spread: NotNegative = 0.5
    """Distance of the policy from its reference: standard deviation of the noise added to each weight."""
    seed: Seed = 0
    """Seed of all draws."""


class Coverage(Study, extra="forbid"):
    """How often the tables' intervals contain the true value, in simulated runs."""

    table: ClassVar[str] = "sysdpo.studies.coverage:run"
    seeds: SomeOf[Count] = (1, 3, 5, 6, 11)
    """Numbers of seeds in a run."""
    seed_variances: SomeOf[NotNegative] = (0.0, 1.0, 5.0, 25.0)
    """The variance between seeds' true means, as a multiple of what the choice of prompts adds to the variance of one
    seed's mean; at 1 both contribute equally."""
    prompts: SomePrompts = 200
    """Prompts in a run."""
    contents: SomeOf[SomePrompts] = (200, 50)
    """Numbers of distinct contents among them, all equally frequent."""
    replicates: Several = 2000
    """Simulated runs."""
    seed: Seed = 0
    """Seed of all draws."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if wrong := [number for number in self.contents if self.prompts % number]:
            raise WrongSetting(("contents",), f"{wrong} should divide the number of prompts, {self.prompts}")
        return self
