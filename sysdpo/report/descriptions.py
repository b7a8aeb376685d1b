"""Names and display settings of systems, methods and metrics, from `results/descriptions.json`.

The step `describe` writes that file from the benchmarks' declarations and the configuration; no name is fixed here.
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
from sysdpo.report.graph import Graph, Variable, ordered


@dataclass(frozen=True)
class Shown(Description):
    """One system: its benchmark's description with all possible metrics, its methods in display order, the heading and
    caption of each configured figure, and its graph, which is None where none is described.
    """

    name: str = ""
    methods: Mapping[str, Method] = field(default_factory=dict)
    figures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    graph: Graph | None = None

    def metric(self, name: str) -> Metric:
        """The metric's description; raises `UserError` without one, since its direction must not be guessed."""
        if name not in self.metrics:
            raise UserError(
                f"Metric '{name}' of '{self.name}' is not described, so it has no direction; described are "
                f"{', '.join(self.metrics)}"
            )
        return self.metrics[name]

    def method(self, name: str) -> Method:
        """The method's description; one of another configuration, which has none here, is called by its name."""
        words = name.replace("_", " ")
        return self.methods.get(name, Method(words, phrase=words, short=words))

    def component(self, name: str) -> str:
        """The component's name within a sentence."""
        return self.components.get(name, f"the {name.replace('_', ' ')}")

    def order_methods(self, names: Iterable[str]) -> list[str]:
        """Sorts names in display order, undescribed ones last and sorted; likewise the next two."""
        return _ordered(names, self.methods)

    def order_metrics(self, names: Iterable[str]) -> list[str]:
        return _ordered(names, self.metrics)

    def order_components(self, names: Iterable[str]) -> list[str]:
        return _ordered(names, self.components)

    def of_kind(self, kind: str, among: Iterable[str] | None = None) -> list[str]:
        """The methods of a kind in display order, of all or only those `among` these names."""
        included = self.methods if among is None else set(among)
        return [name for name, method in self.methods.items() if method.kind == kind and name in included]

    @cached_property
    def subjects(self) -> list[str]:
        """The methods that tables and figures highlight."""
        return self.of_kind(SUBJECT)

    @property
    def subject(self) -> str | None:
        """The first of `subjects`."""
        return next(iter(self.subjects), None)

    @cached_property
    def reference(self) -> str | None:
        """The system before alignment."""
        return next(iter(self.of_kind(REFERENCE)), None)

    @cached_property
    def rival(self) -> str | None:
        """The subjects' main baseline."""
        return next(iter(self.of_kind(RIVAL)), None)

    @cached_property
    def drifts(self) -> list[str]:
        """The metrics of components' drift from their reference."""
        return [name for name in self.metrics if name.startswith(DRIFT)]

    def among(self, metrics: Iterable[str]) -> Shown:
        """A copy whose headline and table have only metrics that were measured."""
        measured = self.order_metrics(metrics)
        headline = [name for name in self.headline if name in measured]
        headline = headline or [name for name in measured if self.metric(name).higher_is_better][:2] or measured[:1]
        table = [name for name in self.table if name in measured]
        return replace(self, headline=tuple(headline), table=tuple(table or dict.fromkeys([*headline, *measured])))

    def best(self, rows: pd.DataFrame, metric: str, kind: str | None = None) -> str | None:
        """The trained method, of this kind if given, with the best mean in `rows` (one row per method), or None.

        Controls do not count.
        """
        methods = {name: self.method(name) for name in rows["method"]}
        candidates = [name for name, method in methods.items() if method.is_candidate and kind in (None, method.kind)]
        means = rows[rows["method"].isin(candidates)].set_index("method")["mean"]
        if means.empty:
            return None
        return str(means.idxmax() if self.metric(metric).higher_is_better else means.idxmin())

    @cached_property
    def words(self) -> dict[str, str]:
        """The values of `{subject}`, `{rival}` and `{hidden}` in captions."""
        first = self.method(self.subjects[0]) if self.subjects else Method("the last method")
        hidden = [method for method in self.methods.values() if method.kind == SUBJECT and method.opening]
        rival = self.method(self.rival).phrase if self.rival else "the others"
        return {"subject": first.label, "rival": rival, "hidden": hidden[0].label if hidden else first.label}


@dataclass(frozen=True)
class Descriptions:
    """All systems by name, and the studies in display order."""

    systems: Mapping[str, Shown]
    studies: Sequence[str] = ()

    def metric(self, system: str, name: str) -> Metric:
        """The metric of a system; raises `UserError` if it is not described."""
        return self.system(system).metric(name)

    def system(self, name: str) -> Shown:
        """The system; raises `UserError` if it is not described."""
        if name not in self.systems:
            raise UserError(f"System '{name}' is not described; described are {', '.join(self.systems)}")
        return self.systems[name]


def read_descriptions(path: Path) -> Descriptions:
    """Raises `UserError` if the step `describe` has not written the file."""
    try:
        content = json.loads(path.read_text())
        systems = {name: _shown(name, described) for name, described in content["systems"].items()}
        return Descriptions(systems, content["studies"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{path}' should be what the step `describe` writes, but cannot be read ({error})") from error


NESTED: dict[str, Any] = {"second_judge": SecondJudge, "pictures": Pictures, "texts": Texts, "quality": Quality}
NAMED: dict[str, Any] = {"metrics": Metric, "methods": Method}


def _shown(name: str, described: Mapping[str, Any]) -> Shown:
    fields = {key: None if described[key] is None else kind(**described[key]) for key, kind in NESTED.items()}
    fields |= {key: {entry: kind(**words) for entry, words in described[key].items()} for key, kind in NAMED.items()}
    graph = described.get("graph")  # older files have none
    if graph is not None:
        graph = Graph(graph["inputs"], ordered((Variable(**one) for one in graph["variables"]), graph["inputs"]))
    return Shown(name=name, **(dict(described) | fields | {"graph": graph}))


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    ranks = {name: rank for rank, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (ranks.get(name, len(ranks)), name))
