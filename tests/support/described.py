"""Descriptions of made-up systems, and those that are committed."""

import json
from dataclasses import asdict
from pathlib import Path

from sysdpo.method.description import Metric
from sysdpo.method.method_words import name_methods
from sysdpo.report.descriptions import Descriptions, Shown, read_descriptions

COMMITTED = Path(__file__).parents[2] / "results" / "descriptions.json"
METRICS = {
    "preference_score": Metric("Preference score", True, "", 3),
    "accuracy": Metric("Accuracy", True, "%", 1, "share of right answers"),
    "length": Metric("Length", False, "tokens", 1, is_goal=False),
    "kl_first": Metric("KL, first", False, "nats", 2),
    "kl_second": Metric("KL, second", False, "nats", 2),
    "win_rate_vs_before": Metric("Win rate vs before", True, "%", 1),
    "x|y": Metric("x|y", True, "", 3),
}
ROWS = {
    "before": {"objective": "none"},
    "best_of_n": {"objective": "none", "best_of": 4},
    "only_first": {"objective": "only_first"},
    "only_second": {"objective": "only_second"},
    "single_sample": {"objective": "sampling", "candidates": {"estimator": "single"}},
    "separate": {"objective": "separate"},
    "direct": {"objective": "direct"},
    "direct+likelihood": {"objective": "direct", "chosen_weight": {"first": 1.0}},
    "sampling": {"objective": "sampling"},
    "likelihood": {"objective": "likelihood"},
    "shuffled": {"objective": "direct", "labels": "random"},
}
COMPONENTS = {"first": "the first model", "second": "the second model"}


def made_up(*names: str, **more: object) -> Descriptions:
    """Systems of these names that have `METRICS`, `ROWS` and `COMPONENTS`."""
    shared: dict = {"metrics": METRICS, "components": COMPONENTS, "methods": name_methods(ROWS, COMPONENTS)} | more
    return Descriptions({name: Shown(name=name, title=name.capitalize(), **shared) for name in names})


def save(descriptions: Descriptions, path: Path) -> Path:
    """As the step `describe` writes them."""
    systems = {name: asdict(shown) for name, shown in descriptions.systems.items()}
    for described in systems.values():
        del described["name"]
    path.write_text(json.dumps({"systems": systems, "studies": list(descriptions.studies)}))
    return path


def committed() -> Descriptions:
    return read_descriptions(COMMITTED)
