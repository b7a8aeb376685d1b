"""`results/descriptions.json`: what is shown of each system, from its benchmark and its part of the configuration."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sysdpo.base.errors import UserError
from sysdpo.base.files import whole
from sysdpo.base.settings import one_of
from sysdpo.method.benchmark import Benchmark, HasPreferences, Scored, load_benchmark, outputs_of
from sysdpo.method.config import Config, evaluation_settings, method_rows, system_config
from sysdpo.method.description import ACCURACY, DRIFT, GREEDY, PICKING, SCORE, WON, Description
from sysdpo.method.method_words import name_methods
from sysdpo.report.claim_file import claims_about, claims_path
from sysdpo.report.figure import figure_name, load_figure
from sysdpo.report.graph import Variable


def write_descriptions(config: Config, output: Path) -> None:
    """Describe every system of a configuration.

    Raises `UserError` if a benchmark's description names something that it does not have, or if a claim is about a
    metric that no evaluation of its system measures.
    """
    systems = {}
    for name in config["systems"]:
        benchmark = load_benchmark(name, system_config(config, name))
        systems[name] = describe(name, config, benchmark)
    _check_claims(config, systems)
    content = {"systems": systems, "studies": list(config.get("studies") or {})}
    with whole(output) as path:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def describe(name: str, config: Config, benchmark: Benchmark) -> dict[str, Any]:
    """The fields of `sysdpo.report.descriptions.Shown` for one system."""
    described, declared = system_config(config, name), benchmark.description
    evaluation, every = evaluation_settings(described, name), method_rows(config, name)
    rows = {method: every[method] for method in (*described["methods"], *(described.get("ablations") or {}))}
    for method in evaluation.win_rates_against:
        one_of(f"systems.{name}.evaluation.win_rates_against", method, list(rows))
    known = dict(declared.components)
    components = known | {
        part: f"the {part.replace('_', ' ')}" for part in described["components"] if part not in known
    }
    scored, preferences = isinstance(benchmark, Scored), isinstance(benchmark, HasPreferences)
    own = {*declared.metrics, *([SCORE] if scored else []), *([ACCURACY] if preferences else [])}
    _check_names(declared, own, components, f"the description of systems.{name}")
    metrics = declared.all_metrics(
        components, evaluation.greedy, evaluation.win_rates_against, scored=scored, preferences=preferences
    )
    headline = declared.headline or ((ACCURACY,) if preferences and not scored else ())
    return asdict(declared) | {
        "headline": headline,
        "title": declared.title or name.replace("_", " ").capitalize(),
        "components": components,
        "metrics": {metric: asdict(words) for metric, words in metrics.items()},
        "methods": {method: asdict(words) for method, words in name_methods(rows, components).items()},
        "figures": _figures(described.get("figures") or (), f"systems.{name}.figures"),
        "graph": _graph(benchmark, [part for part, told in described["components"].items() if told.get("lora", True)]),
    }


def _graph(benchmark: Benchmark, trained: Collection[str]) -> dict[str, Any] | None:
    """The fields of `sysdpo.report.graph.Graph`; None without nodes. trained: the components that are trained."""
    if not benchmark.nodes:
        return None
    outputs = outputs_of(benchmark)
    variables = []
    for node in benchmark.nodes:
        part = node.component
        component = part if isinstance(part, str) else getattr(part, "__name__", type(part).__name__)
        made = Variable(node.name, component, tuple(node.parents), component in trained, node.name in outputs)
        variables.append(asdict(made))
    return {"inputs": list(benchmark.inputs), "variables": variables}


def _figures(references: Any, where: str) -> dict[str, list[str]]:
    found = {figure_name(reference): load_figure(reference, where) for reference in references}
    return {name: [drawing.heading, drawing.caption] for name, drawing in found.items()}


def _check_names(declared: Description, own: Collection[str], components: Mapping[str, str], where: str) -> None:
    """Raises `UserError` if a description names a metric that no configuration of the system would measure.

    own: the metrics that do not depend on settings.
    """
    possible = {*own, *(f"{name}{GREEDY}" for name in own), *(f"{DRIFT}{name}" for name in (*components, PICKING))}
    for part in ("headline", "table", "checks"):
        for metric in getattr(declared, part):
            if not metric.startswith(WON):
                one_of(f"{where}: {part}", metric, sorted(possible))
    judged = [] if declared.second_judge is None else [declared.second_judge.metric, declared.second_judge.judge]
    for metric in (*judged, *([declared.texts.metric] if declared.texts else [])):
        one_of(where, metric, sorted({SCORE, *own}))


def _check_claims(config: Config, systems: Mapping[str, Mapping[str, Any]]) -> None:
    path = claims_path(config)
    if path is None:
        return
    claims = [claim for way in (False, True) for claim in claims_about(config, path, ablations=way).claims]
    for claim in claims:
        if claim.metric not in (known := systems[claim.system]["metrics"]):
            raise UserError(f"claims: '{claim.id}' is about '{claim.metric}', which should be one of {sorted(known)}")
