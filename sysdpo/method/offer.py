"""What a benchmark has for methods to learn from, and the settings that ask for what it does not have.

No model library is imported: a workflow holds its configuration against it before the first job.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sysdpo.base.errors import UserError
from sysdpo.method.settings import Evaluation, MethodSettings

INSTEAD = "use an objective with hidden intermediates, 'sampling' say (or likelihood with hidden chosen_intermediates)"
NO_SCORE = "because this system has no score"


@dataclass(frozen=True)
class Offer:
    """What methods can learn from; None is what is only known once the data are read.

    scored: whether the benchmark has a score. variables: how many generated variables the trajectories of its
    preferences have; 0 if its data come without preferences.
    """

    scored: bool | None = None
    variables: int | None = None

    def check(
        self,
        rows: Mapping[str, MethodSettings],
        evaluation: Evaluation,
        components: Collection[str],
        where: str,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        """Raises `UserError` about the first setting that asks for what the benchmark does not have.

        rows: the methods by name. evaluation: the system's section of that name. components: the system's models, each
        of which generates at least one variable. where: the setting of the system, for the error. sources: for methods
        that are not rows of `methods`, the setting that they come from.
        """
        if self.scored is False and evaluation.win_rates_against:
            wanted = list(evaluation.win_rates_against)
            raise UserError(f"{where}.evaluation.win_rates_against: {wanted} should be empty, {NO_SCORE}")
        for name, row in rows.items():
            at = (sources or {}).get(name, f"{where}.methods.{name}")
            if self.scored is False and row.best_of > 1:
                raise UserError(f"{at}.best_of: {row.best_of} should be 1, {NO_SCORE} to pick by")
            if not row.trains:
                continue
            if self.variables == 0 and row.early_stopping is not None:
                raise UserError(
                    f"{at}.early_stopping: {row.early_stopping} should be null, because this system's data come with "
                    "no preferences to hold out"
                )
            if row.preferences == "sampled":
                if self.scored is False:
                    raise UserError(f"{at}.preferences: 'sampled' should be 'dataset', {NO_SCORE} to make them from")
            elif self.variables == 0:
                raise UserError(
                    f"{at}.preferences: 'dataset' should be 'sampled', because this system's data come with no "
                    "preferences"
                )
            elif self.variables is not None and self.variables < len(components) and "known" in row.intermediates:
                raise UserError(
                    f"{at}.preferences: 'dataset' has final outputs alone, and '{row.objective}' must see all "
                    f"variables; {INSTEAD}"
                )


@runtime_checkable
class Offering(Protocol):
    """A benchmark, or the class of a benchmark's settings, that says what methods can learn from.

    offer: of the benchmark.
    """

    offer: Offer
