"""Benchmarks from the sections that a test is about; the others are as small as they may be."""

import re
from collections.abc import Mapping
from typing import Any

from sysdpo.applications.answers.two_stage_qa import load_world
from sysdpo.method.benchmark import load_benchmark

ANSWERS = "sysdpo.applications.answers.settings"


def build(described: Mapping[str, Any]) -> Any:
    """The benchmark of a system that is called as its settings' class is."""
    components = described.get("components", {})
    rest = {
        "trajectories": {"samples_per_prompt": 2},
        "training": {name: dict.fromkeys(components, 0.0 + place) for place, name in enumerate(RATES)},
        "methods": {"before": {"objective": "none"}},
        "evaluation": {"samples_per_prompt": 1},
    }
    kind = described["factory"].partition(":")[2]
    return load_benchmark(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower(), rest | described)


RATES = ("chosen_weight", "learning_rate")


def sums(questions: Mapping[str, Any], foundation: Mapping[str, Any]) -> Any:
    """The world of the sums."""
    return load_world({"source": f"{ANSWERS}:Sums", **questions}, foundation, "systems.tried")


def cities(questions: Mapping[str, Any], foundation: Mapping[str, Any]) -> Any:
    """The world of the cities."""
    return load_world({"source": f"{ANSWERS}:Cities", **questions}, foundation, "systems.tried")
