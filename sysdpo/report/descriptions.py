"""What systems, methods and metrics are called and how they are shown: `results/descriptions.json`, read and asked.

The step `describe` writes it from what benchmarks declare and a configuration says. Nothing here knows a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.method.description import DRIFT, Description, Metric, Pictures, Quality, SecondJudge, Texts
from sysdpo.method.method_words import REFERENCE, RIVAL, SUBJECT, Method


@dataclass(frozen=True)
class Shown(Description):
    """One system: what its benchmark declares, with every metric that there may be, every component, its methods in
    display order, and of the figures that the configuration names heading and caption.
    """

    name: str = ""
    methods: Mapping[str, Method] = field(default_factory=dict)
    figures: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def metric(self, name: str) -> Metric:
        """Raises `UserError` for one that is not described: the direction of a metric is never guessed."""
        if name not in self.metrics:
            raise UserError(
                f"Metric '{name}' of '{self.name}' is not described, so it has no direction; described are "
                f"{', '.join(self.metrics)}"
            )
        return self.metrics[name]

    def method(self, name: str) -> Method:
        """One that is not described, of another configuration's run say, is called by its name."""
        words = name.replace("_", " ")
        return self.methods.get(name, Method(words, phrase=words, short=words))

    def component(self, name: str) -> str:
        """What a component is called within a sentence."""
        return self.components.get(name, f"the {name.replace('_', ' ')}")

    def order_methods(self, names: Iterable[str]) -> list[str]:
        """In display order, as the next two; names that are not described come after, sorted."""
        return _ordered(names, self.methods)

    def order_metrics(self, names: Iterable[str]) -> list[str]:
        return _ordered(names, self.metrics)

    def order_components(self, names: Iterable[str]) -> list[str]:
        return _ordered(names, self.components)

    def of_kind(self, kind: str, among: Iterable[str] | None = None) -> list[str]:
        """The methods of a kind in display order, of all or of those `among` them."""
        there = self.methods if among is None else set(among)
        return [name for name, method in self.methods.items() if method.kind == kind and name in there]

    @cached_property
    def subjects(self) -> list[str]:
        """The methods that tables and figures set off."""
        return self.of_kind(SUBJECT)

    @property
    def subject(self) -> str | None:
        """The first of them."""
        return next(iter(self.subjects), None)

    @cached_property
    def reference(self) -> str | None:
        """The system as it is."""
        return next(iter(self.of_kind(REFERENCE)), None)

    @cached_property
    def rival(self) -> str | None:
        """The subjects' main baseline."""
        return next(iter(self.of_kind(RIVAL)), None)

    @cached_property
    def drifts(self) -> list[str]:
        """The metrics that say how far a component is from its reference."""
        return [name for name in self.metrics if name.startswith(DRIFT)]

    def among(self, metrics: Iterable[str]) -> Shown:
        """With a headline and a table of those metrics alone that were measured, whatever is declared."""
        there = self.order_metrics(metrics)
        headline = [name for name in self.headline if name in there]
        headline = headline or [name for name in there if self.metric(name).higher_is_better][:2] or there[:1]
        table = [name for name in self.table if name in there]
        return replace(self, headline=tuple(headline), table=tuple(table or dict.fromkeys([*headline, *there])))

    def best(self, rows: pd.DataFrame, metric: str, kind: str | None = None) -> str | None:
        """The trained method, controls aside, with the best mean of `rows`, one a method, of a kind where one is given;
        None without any.
        """
        methods = {name: self.method(name) for name in rows["method"]}
        kept = [name for name, each in methods.items() if each.is_candidate and kind in (None, each.kind)]
        means = rows[rows["method"].isin(kept)].set_index("method")["mean"]
        if means.empty:
            return None
        return str(means.idxmax() if self.metric(metric).higher_is_better else means.idxmin())

    @cached_property
    def words(self) -> dict[str, str]:
        """What a caption's `{subject}`, `{rival}` and `{hidden}` stand for."""
        first = self.method(self.subjects[0]) if self.subjects else Method("the last method")
        hidden = [method for method in self.methods.values() if method.kind == SUBJECT and method.opening]
        rival = self.method(self.rival).phrase if self.rival else "the others"
        return {"subject": first.label, "rival": rival, "hidden": hidden[0].label if hidden else first.label}


@dataclass(frozen=True)
class Descriptions:
    """All systems by name, and the studies in the order that they are shown in."""

    systems: Mapping[str, Shown]
    studies: Sequence[str] = ()

    def metric(self, system: str, name: str) -> Metric:
        """Raises `UserError` for one that is not described."""
        return self.system(system).metric(name)

    def system(self, name: str) -> Shown:
        """Raises `UserError` for one that is not described."""
        if name not in self.systems:
            raise UserError(f"System '{name}' is not described; described are {', '.join(self.systems)}")
        return self.systems[name]


def read_descriptions(path: Path) -> Descriptions:
    """Raises `UserError` if the file is none that the step `describe` has written."""
    try:
        content = json.loads(path.read_text())
        systems = {name: _shown(name, described) for name, described in content["systems"].items()}
        return Descriptions(systems, content["studies"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{path}' should be what the step `describe` writes, but cannot be read ({error})") from error


NESTED: dict[str, Any] = {"second_judge": SecondJudge, "pictures": Pictures, "texts": Texts, "quality": Quality}
NAMED: dict[str, Any] = {"metrics": Metric, "methods": Method}


def _shown(name: str, described: Mapping[str, Any]) -> Shown:
    parts = {key: None if described[key] is None else kind(**described[key]) for key, kind in NESTED.items()}
    parts |= {key: {each: kind(**words) for each, words in described[key].items()} for key, kind in NAMED.items()}
    return Shown(name=name, **(dict(described) | parts))


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    places = {name: place for place, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))
