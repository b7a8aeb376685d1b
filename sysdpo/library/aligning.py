"""Aligning a system from Python: train on preferences, measure on others, compare the outputs."""

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
from sysdpo.method.objectives import ONLY
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System
from sysdpo.method.values import plain
from sysdpo.report.intervals import mean_interval


@dataclass(frozen=True)
class Alignment:
    """The result of a training.

    settings: all of them, defaults included. log: a row for each update, as in `training.jsonl`. preference_accuracy:
    the share of held-out pairs whose chosen output has become likelier, relative to the rejected one and to the start
    of the training; ties count half. None if no pairs were held out.
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
    """Train a system in place on preferences; `System.reset` undoes it.

    system: at least one of its components must be trainable.
    preferences: from `read_preferences`.
    method: the objective: `direct`, `sampling`, `separate`, `only_<component>` or one of your own.
    learning_rate, chosen_weight: one number for all components, or a number for each by name.
    held_out: pairs for the preference accuracy; with `eval_every` it is also measured during the training. With
    `early_stopping` that accuracy is the best of several measurements, so keep other pairs for a final one.
    seed: of adapters, order of pairs, candidates and noise.
    output: a folder for adapters and log; None keeps neither.
    settings: any other field of `MethodSettings`, `beta=0.1, steps=100` for example.

    Raises `UserError` if a setting is wrong, if nothing can be trained, or if the preferences lack a variable that the
    method needs.
    """
    trainable = system.trainable
    if not trainable:
        raise UserError(f"system: none of its components {list(system.components)} can be trained; give one an adapter")
    for where, named in (("learning_rate", learning_rate), ("chosen_weight", chosen_weight)):
        training.check_trainable(system, named if isinstance(named, Mapping) else (), where)
    training.check_trainable(system, settings.get("components") or (), "components")
    training.check_trainable(system, [method.removeprefix(ONLY)] if method.startswith(ONLY) else [], "method")
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

    If the preferences lack some variables, it is the margin of the marginal, `R(w) − R(l)`.

    settings: those of the training. seed: of candidates and noise. rows: the most rows that a component gets at once.
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

    prompts: at least two mappings with the system's inputs; metrics may use their other entries.
    metrics: functions whose parameters are named after variables of the system or entries of the prompt.
    samples: trajectories for each prompt, whose values are averaged.

    Raises `UserError` if there are fewer than two prompts, or if a metric is not a finite number.
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
    """The outputs of several systems for the same inputs: a row for each variable and sample, a column for each system.

    inputs, named: one value for each input, in order or by name. samples: trajectories of each system.
    """
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
