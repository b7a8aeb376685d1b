"""Aligning a system from Python: train on preferences, measure on others, look at what came of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from sysdpo.base.errors import UserError
from sysdpo.base.seeds import seed_torch
from sysdpo.library.benchmark import call_with
from sysdpo.library.preferences import Preferences
from sysdpo.method import training
from sysdpo.method.held_out import ROWS, intermediates_for, pair_margins, rightness
from sysdpo.method.intermediates import check_seen
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System
from sysdpo.method.values import plain
from sysdpo.report.intervals import mean_interval


@dataclass(frozen=True)
class Alignment:
    """What a training has made of a system.

    settings: all of them, defaults included. log: a row an update, as in `training.jsonl`. preference_accuracy: the
    share of held-out pairs of which the system has come to prefer the chosen, relative to where it started, ties half;
    None where none were held out.
    """

    settings: MethodSettings
    log: pd.DataFrame
    preference_accuracy: float | None = None


def align(
    system: System,
    preferences: Preferences,
    *,
    method: str = "direct",
    learning_rate: float | Mapping[str, float] = 1e-4,
    chosen_weight: float | Mapping[str, float] = 0.0,
    held_out: Preferences | None = None,
    seed: int = 0,
    output: Path | str | None = None,
    **settings: Any,
) -> Alignment:
    """Train the system, in place, on preferences by one method; `System.reset` takes it back.

    method: the objective, `direct`, `sampling`, `separate`, `only_<component>` or one's own. learning_rate,
    chosen_weight: of every component alike, or by name. output: a folder for adapters and the log. settings: any other
    of `MethodSettings`, `beta=0.1, steps=100` say. held_out: with `eval_every` also looked at while training; with
    `early_stopping`, too, its accuracy is that of the best of several looks, and others should be kept for the last.

    Raises `UserError` where a setting is wrong, or where the preferences lack what the method must see.
    """
    trainable = system.trainable
    if not trainable:
        raise UserError(f"system: none of its components {list(system.components)} can be trained; give one an adapter")
    per_component: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else dict.fromkeys(trainable, float(value))
        for name, value in (("learning_rate", learning_rate), ("chosen_weight", chosen_weight))
    }
    chosen = MethodSettings(objective=method, **per_component, **_fitted(settings, len(preferences)))
    check_seen(preferences.trajectories.columns, system, chosen, "preferences")
    watched = None if held_out is None else (held_out.trajectories, held_out.pairs)
    seed_torch("adapters", seed)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch if output is None else output)
        data = (preferences.trajectories, preferences.pairs)
        training.align(system, lambda number: data, chosen, seed=seed, output=folder, title=method, held_out=watched)
        log = pd.read_json(folder / "training.jsonl", lines=True)
    accuracy = None if held_out is None else preference_accuracy(system, held_out, chosen, seed=seed)
    return Alignment(chosen, log, accuracy)


def preference_accuracy(
    system: System,
    preferences: Preferences,
    settings: MethodSettings,
    *,
    seed: int = 0,
    rows: int = ROWS,
) -> float:
    """The share of pairs whose margin, summed over the trained components, is above zero; ties count half.

    Where the preferences have no values of some variables it is the margin of the marginal. rows: the most that a
    component is given at once.
    """
    data = (preferences.trajectories, preferences.pairs)
    intermediates = intermediates_for(system, data[0].columns, settings.candidates)
    components = settings.trained(system.trainable)
    margin = pair_margins(system, data, intermediates, components, seed=seed, rows=rows)
    return float(rightness(margin).mean())


def evaluate(
    system: System,
    prompts: Iterable[Mapping[str, Any]],
    metrics: Mapping[str, Callable[..., float]],
    *,
    samples: int = 1,
    seed: int = 0,
) -> pd.DataFrame:
    """Each metric's mean over prompts, with its 95 % interval: columns `metric, mean, ci_low, ci_high, n_prompts`.

    prompts: mappings with the system's inputs; what else they hold is there for the metrics. metrics: functions that
    are given a trajectory's variables and the prompt's other values by name, those that they ask for. Raises
    `UserError` where a metric is no finite number.
    """
    rows = [dict(row) for row in prompts]
    if len(rows) < 2:
        raise UserError(f"prompts: {len(rows)} should be at least 2, or nothing can be said of others")
    inputs = {name: [row[name] for row in rows for _ in range(samples)] for name in system.inputs}
    with torch.no_grad():
        drawn = system.sample(inputs, seeds=range(seed, seed + len(rows) * samples))
    found = []
    for name, metric in metrics.items():
        values = np.empty((len(rows), samples))
        for index in range(len(rows) * samples):
            row = rows[index // samples] | {variable: column[index] for variable, column in drawn.items()}
            value = call_with(metric, row, f"metrics.{name}")
            values[index // samples, index % samples] = value
        mean, low, high = mean_interval(values.mean(1)[None], np.arange(len(rows)))
        found.append((name, float(mean), float(low), float(high), len(rows)))
    return pd.DataFrame(found, columns=["metric", "mean", "ci_low", "ci_high", "n_prompts"])


def compare(systems: Mapping[str, System], *inputs: Any, seed: int = 0, samples: int = 1, **named: Any) -> pd.DataFrame:
    """What systems make of one set of inputs, side by side: a row a variable and sample, a column a system."""
    columns: dict[str, Sequence[Any]] = {}
    index: list[tuple[str, int]] = []
    for name, system in systems.items():
        values = dict(zip(system.inputs, inputs, strict=False)) | named
        with torch.no_grad():
            rows = {variable: [value] * samples for variable, value in values.items()}
            drawn = system.sample(rows, seeds=range(seed, seed + samples))
        index = [(node.name, sample) for node in system.nodes for sample in range(samples)]
        columns[name] = [plain(drawn[variable][sample]) for variable, sample in index]
    return pd.DataFrame(columns, index=pd.MultiIndex.from_tuples(index, names=["variable", "sample"]))


def _fitted(settings: Mapping[str, Any], pairs: int) -> dict[str, Any]:
    """A batch that is no larger than the preferences, where nothing else is set."""
    size = MethodSettings.model_fields["batch_size"].default
    return {"batch_size": min(size, pairs)} | dict(settings)
