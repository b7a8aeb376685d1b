"""Claims about a run's results, read from a file and checked against a configuration.

Nothing that reads tables is imported here, so that a workflow can reject a claim before its first job.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sysdpo.base.errors import UserError
from sysdpo.base.functions import LIBRARY
from sysdpo.base.settings import FORMS, ListOf, NotNegative, Number, Settings, WrongSetting, one_of
from sysdpo.base.yaml_files import read_yaml
from sysdpo.method.config import Config, method_rows

VERDICTS = HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
CONDITIONS = ("sign", "at_least", "at_most", "within")

CLAIM_ID = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
FORMS[CLAIM_ID] = "a name of small letters and digits, with hyphens between its words"


class Claim(Settings):
    """A statement about a metric, in stored units (fractions, not percent), with one of the last four fields."""

    id: Annotated[str, Field(pattern=CLAIM_ID)]
    """Lowercase words and digits, joined by `-`."""
    system: str
    """The system it is about."""
    metric: str
    """The metric it is about."""
    method: str
    """The method it is about."""
    baseline: str | None = None
    """The claim is about `method` minus `baseline`; without one, about the method's own mean."""
    question: str | None = None
    """The key of the question it answers."""
    sign: Literal["above", "below"] | None = None
    """The side of zero."""
    at_least: Number | None = None
    """A lower bound."""
    at_most: Number | None = None
    """An upper bound."""
    within: NotNegative | None = None
    """An upper bound on the absolute difference, for claims of equivalence."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if len([name for name in CONDITIONS if getattr(self, name) is not None]) != 1:
            raise WrongSetting((), f"a claim should have exactly one of {list(CONDITIONS)}")
        if self.within is not None and self.baseline is None:
            raise WrongSetting(("within",), "it should come with a baseline, because it is about a difference")
        return self

    @property
    def condition(self) -> str:
        """`above`, `below`, `at_least`, `at_most` or `within`."""
        name = next(name for name in CONDITIONS if getattr(self, name) is not None)
        return self.sign if name == "sign" and self.sign is not None else name

    @property
    def bound(self) -> float:
        """The number that the condition compares with: 0 for a sign."""
        return 0.0 if self.sign is not None else float(getattr(self, self.condition))

    def judge(self, low: float, high: float) -> str:
        """One of `VERDICTS` for the closed interval from `low` to `high`: all of it fulfils the condition, none of it
        does, or neither. Our choice.
        """
        bound = self.bound
        holds, fails = {
            "above": (low > bound, high <= bound),
            "below": (high < bound, low >= bound),
            "at_least": (low >= bound, high < bound),
            "at_most": (high <= bound, low > bound),
            "within": (low >= -bound and high <= bound, low > bound or high < -bound),
        }[self.condition]
        return HOLDS if holds else FAILS if fails else UNDECIDED


@dataclass(frozen=True)
class Claims:
    """The claims in the order of their file, and its questions by key, in the order in which they are shown."""

    claims: tuple[Claim, ...] = ()
    questions: Mapping[str, str] = field(default_factory=dict)


class ClaimFile(Settings):
    """The content of a file of claims."""

    claims: ListOf[Mapping[str, Any]]
    """Mappings with the fields of `Claim`."""
    questions: Mapping[str, str] = Field(default_factory=dict)
    """The questions that claims answer, by key."""


def claims_path(config: Mapping[str, Any]) -> Path | None:
    """The file that a configuration names, in the working directory or in the project; None if it names none."""
    named = config.get("claims")
    if named is None:
        return None
    return next((path for path in (Path(named), LIBRARY.parent / named) if path.exists()), Path(named))


def read_claims(path: Path) -> Claims:
    """The claims in a file; raises `UserError` on an invalid claim or a repeated id."""
    where = f"claims: '{path}'"
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{where} should be a mapping with the key 'claims'")
    file = ClaimFile.read(content, where)
    claims: dict[str, Claim] = {}
    for number, line in enumerate(file.claims, start=1):
        claim = Claim.read(line, f"{where}, {line.get('id') or f'number {number}'}")
        if claim.id in claims:
            raise UserError(f"{where} has two claims of the id '{claim.id}'; give each its own")
        if claim.question is not None:
            one_of(f"{where}, {claim.id}.question", claim.question, list(file.questions))
        claims[claim.id] = claim
    return Claims(tuple(claims.values()), dict(file.questions))


def claims_about(config: Config, path: Path, *, ablations: bool = False) -> Claims:
    """The claims in a file about the systems of a configuration.

    ablations: only claims that involve an ablation of their system, instead of only claims that do not. Raises
    `UserError` if a claim is about an unknown method, or about a difference that a run does not compute: only trained
    methods are compared, and only with the system's baselines.
    """
    file = read_claims(path)
    claims = []
    for claim in file.claims:
        if claim.system not in config["systems"]:
            continue
        system, where = config["systems"][claim.system], f"claims: '{path}', {claim.id}"
        extra, rows = system.get("ablations") or {}, method_rows(config, claim.system)
        one_of(f"{where}.method", claim.method, [*system["methods"], *extra])
        if bool({claim.method, claim.baseline} & set(extra)) == ablations:
            claims.append(claim)
        if claim.baseline is None:
            continue
        one_of(f"{where}.baseline", claim.baseline, system["baselines"])
        if claim.baseline == claim.method:
            raise UserError(f"{where}.baseline: '{claim.baseline}' should be another method than the claim's own")
        if rows[claim.method]["objective"] == "none":
            raise UserError(f"{where}.method: '{claim.method}' is not trained, so it is compared with no baseline")
    return Claims(tuple(claims), file.questions)


def check_claims(config: Config) -> None:
    """Raises `UserError` if a configuration's file of claims is invalid or does not fit its systems."""
    path = claims_path(config)
    if path is not None:
        claims_about(config, path)
