"""The one training loop: preference pairs in, adapters and a log out."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from sysdpo.errors import UserError
from sysdpo.evidence import Evidence, witness
from sysdpo.objectives import make_link, make_objective, margins, trained_components
from sysdpo.preferences import label_pairs, select_pairs
from sysdpo.progress import Progress
from sysdpo.settings import MethodSettings
from sysdpo.system import System

Collect = Callable[[int], tuple[pd.DataFrame, pd.DataFrame]]
"""Trajectories and all their untied pairs for a round, sampled from the system as it then is."""

DRAWS_PER_RUN = 10**7


def align(
    system: System, collect: Collect, settings: MethodSettings, *, seed: int, output: Path, title: str = "train"
) -> None:
    """Train the system by one method for all its rounds; write `adapters/{component}/` and `training.jsonl`.

    Every round starts from `collect(round)` and takes the system it finds as its reference. `title` names the run in
    its progress.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / "training.jsonl").open("w") as log:
        for number in range(settings.rounds):
            trajectories, pairs = collect(number)
            if number > 0:
                for component in system.components.values():
                    component.rebase_reference()
            chosen_pairs = select_pairs(pairs, settings.pairs, seed + number)
            labelled = label_pairs(chosen_pairs, settings.labels, settings.label_temperature, seed + number)
            train_round(system, trajectories, labelled, settings, seed=seed, number=number, log=log, title=title)
    for name in trained_components(settings.objective, system.trainable):
        system.components[name].save(output / "adapters" / name)


def train_round(
    system: System,
    trajectories: pd.DataFrame,
    pairs: pd.DataFrame,
    settings: MethodSettings,
    *,
    seed: int,
    number: int,
    log: TextIO,
    title: str = "train",
) -> None:
    """`settings.steps` updates on `pairs` (columns `chosen_id, rejected_id`) of `trajectories`."""
    components = trained_components(settings.objective, system.trainable)
    accelerator = Accelerator()
    for component in system.components.values():
        component.to(accelerator.device)
    weights = {name: system.components[name].trainable_parameters() for name in components}
    groups = [{"params": weights[name], "lr": settings.learning_rate[name]} for name in components]
    optimizer = accelerator.prepare(torch.optim.AdamW(groups, weight_decay=0.0))
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, settings.steps)
    rows = trajectories.set_index("trajectory_id")
    if unknown := sorted({*pairs["chosen_id"], *pairs["rejected_id"]} - set(rows.index)):
        raise UserError(f"pairs: {len(unknown)} trajectories are not among those given, '{unknown[0]}' the first")
    batches = _batches(len(pairs), settings.batch_size, np.random.default_rng([seed, number]))
    asked = witness(system, settings.objective, settings.candidate_settings)
    seen = asked.variables(rows.columns)
    ahead: list[tuple[np.ndarray, np.ndarray]] = []
    started = time.monotonic()
    with Progress(f"{title}, round {number + 1}/{settings.rounds}", settings.steps) as progress:
        for step in range(settings.steps):
            if not ahead:
                ahead = list(itertools.islice(batches, min(asked.refresh, settings.steps - step)))
                coming = pairs.iloc[np.concatenate([places for places, _ in ahead])]
                first = rows.loc[coming["chosen_id"]]
                seeds = np.random.default_rng([seed, number, step]).integers(1 << 62, size=len(coming)).tolist()
                inputs = {name: first[name].tolist() for name in system.inputs}
                asked.prepare(inputs, coming["prompt_id"].tolist(), seeds=seeds)
            places, passes = ahead.pop(0)
            batch = pairs.iloc[places]
            # A pair meets the same few noises again and again: less variance, and the reference's part is known.
            draw = (seed * DRAWS_PER_RUN + places * settings.noise_bank + passes % settings.noise_bank).tolist() * 2
            both = rows.loc[[*batch["chosen_id"], *batch["rejected_id"]]]
            variables = {name: both[name].tolist() for name in seen}
            prompts = batch["prompt_id"].tolist() * 2
            evidence = asked.evidence(variables, prompts, draw=draw, components=components)
            loss, record = pair_loss(evidence, settings)
            accelerator.backward(loss)
            # Each component is clipped by itself: one's large gradient must not slow the others.
            norms = [float(accelerator.clip_grad_norm_(weights[name], settings.max_grad_norm)) for name in components]
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if not np.isfinite(record["loss"]):
                raise UserError(f"learning_rate: {settings.learning_rate} made the loss {record['loss']}; lower it")
            place = {"step": number * settings.steps + step, "round": number}
            spent = {"gradient_norm": float(np.hypot.reduce(norms)), "seconds": time.monotonic() - started}
            log.write(json.dumps(place | record | spent) + "\n")
            log.flush()
            progress.update(loss=record["loss"], accuracy=record["accuracy"])


def pair_loss(evidence: Evidence, settings: MethodSettings) -> tuple[Tensor, dict[str, Any]]:
    """The mean loss of a batch of pairs, and what to log of it.

    To the preference term is added `Σ_k chosen_weight_k · (−log p_k(chosen))`, which keeps the chosen likely (RPO, Pang
    et al., arXiv 2404.19733); of hidden intermediates it is the mean under their posterior, as in the EM algorithm.
    """
    log_probs = evidence.components
    ratios = {name: (policy - reference).chunk(2) for name, (policy, reference) in log_probs.items()}
    chosen = {name: ratio[0] for name, ratio in ratios.items()}
    rejected = {name: ratio[1] for name, ratio in ratios.items()}
    margin = margins(chosen, rejected)
    judged = margin
    if evidence.marginal is not None:
        likelier, unlikelier = (evidence.marginal.policy - evidence.marginal.reference).chunk(2)
        judged = {"marginal": likelier - unlikelier}
    link = make_link(settings.link, beta=settings.beta, label_smoothing=settings.label_smoothing)
    preference = make_objective(settings.objective)(judged, link)
    likelihood = {name: policy.chunk(2)[0] for name, (policy, _) in log_probs.items()}
    anchors = sum(-settings.chosen_weight[name] * likelihood[name] for name in likelihood)
    loss = (preference + anchors).mean()
    total = torch.stack(list(judged.values())).sum(0)
    record = {"loss": preference.mean(), "total_loss": loss, "accuracy": (total > 0).float().mean()}
    record["margin"] = total.mean()
    for name in margin:
        record[f"margin_{name}"] = margin[name].mean()
        record[f"chosen_{name}"], record[f"rejected_{name}"] = chosen[name].mean(), rejected[name].mean()
        record[f"chosen_log_prob_{name}"] = likelihood[name].mean()
    record |= {name: measure.mean() for name, measure in evidence.measures.items()}
    return loss, {key: float(value.detach()) for key, value in record.items()}


def _batches(count: int, size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless shuffled passes: the places of `size` pairs out of `count`, and the number of the pass each belongs to.

    A pass's last, short batch is filled up from the next pass.
    """
    places, passes = np.empty(0, dtype=int), np.empty(0, dtype=int)
    for number in itertools.count():
        places = np.concatenate([places, rng.permutation(count)])
        passes = np.concatenate([passes, np.full(count, number)])
        while len(places) >= size:
            yield places[:size], passes[:size]
            places, passes = places[size:], passes[size:]
