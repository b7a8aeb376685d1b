"""The one training loop: preference pairs in, adapters and a log out.

Several processes share each batch's pairs; accelerate adds up the gradients of their adapters (data parallelism), so
that an update is that of one process with the whole batch.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from sysdpo.base.errors import UserError
from sysdpo.base.progress import Progress
from sysdpo.method.checkpoints import (
    Checkpoint,
    TrainingState,
    memories_of,
    set_memories,
    set_weights,
    weights_of,
)
from sysdpo.method.component import Deterministic, SampleOnly
from sysdpo.method.early_stopping import HeldOut
from sysdpo.method.held_out import Pairs
from sysdpo.method.intermediates import BatchLogProbs, intermediates_of
from sysdpo.method.monitor import drift_of_draws, gradient_cosines
from sysdpo.method.objectives import make_link, make_objective, margins
from sysdpo.method.pair_batches import MicroBatch, PairBatches
from sysdpo.method.preferences import label_pairs, select_pairs
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System

Collect = Callable[[int], tuple[pd.DataFrame, pd.DataFrame]]
"""A function from a round's number to its trajectories and all their untied pairs, from the system as it then is."""


def align(
    system: System,
    collect: Collect,
    settings: MethodSettings,
    *,
    seed: int,
    output: Path,
    title: str = "train",
    checkpoint: Checkpoint | None = None,
    held_out: Pairs | None = None,
) -> None:
    """Train the system by one method for all its rounds; write `adapters/{component}/` and `training.jsonl`.

    Each round learns from `collect(round)`; its reference is the system that it starts from.

    seed: of the choice and order of pairs, their labels, candidates and Monte-Carlo noise.
    output: the folder to write.
    title: of the training in its progress line.
    checkpoint: what it holds of this training is not done again.
    held_out: trajectories and pairs that the accuracy is measured on every `eval_every` updates.

    Raises `UserError` if early stopping has no held-out pairs, if learning rates name other components than those that
    are trained, or if a loss, gradient or weight is no longer finite.
    """
    if settings.early_stopping is not None and (held_out is None or not len(held_out[1])):
        raise UserError(
            f"early_stopping: {settings.early_stopping} should be null, because there are no held-out pairs to look at"
        )
    trained = check_trained(system, settings)
    checkpoint = checkpoint or Checkpoint()
    output.mkdir(parents=True, exist_ok=True)
    with (output / "training.jsonl").open("w") as log:
        resumed = checkpoint.read(system, settings)
        if resumed:
            log.write(resumed.log)
            set_weights(system, resumed.began)
        for number in range(resumed.round if resumed else 0, settings.rounds):
            trajectories, pairs = collect(number)
            if number > 0:
                for component in system.components.values():
                    component.rebase_reference()
            chosen_pairs = select_pairs(pairs, settings.pairs, seed, number)
            labelled = label_pairs(chosen_pairs, settings.labels, settings.label_temperature, seed, number)
            run: dict[str, Any] = {"seed": seed, "number": number, "title": title}
            train_round(
                *(system, trajectories, labelled, settings),
                log=log,
                checkpoint=checkpoint,
                resumed=resumed,
                held_out=held_out,
                **run,
            )
            resumed = None
    for name in trained:
        system.components[name].save(output / "adapters" / name)


def check_trained(system: System, settings: MethodSettings) -> list[str]:
    """The components that a method trains; raises `UserError` unless its learning rates are theirs."""
    trained, named = settings.trained(system.trainable), set(settings.learning_rate)
    check_trainable(system, [*trained, *settings.components], "objective")
    check_trainable(system, settings.learning_rate, "learning_rate")
    if wrong := sorted(set(trained) - named) or sorted(named - set(system.trainable)):
        raise UserError(
            f"learning_rate: {sorted(named)} should name {sorted(trained)}, which '{settings.objective}' trains, and "
            f"none but {sorted(system.trainable)}; '{wrong[0]}' is wrong"
        )
    return trained


def check_trainable(system: System, names: Iterable[str], where: str) -> None:
    """Raises `UserError` about a component of these names that cannot be trained, with the reason.

    where: the setting that names them.
    """
    for name in names:
        component = system.components.get(name)
        if component is not None and name not in system.trainable:
            reason = "it is frozen, without an adapter (lora)"
            if isinstance(component, Deterministic):
                reason = "it is a function of its inputs"
            elif isinstance(component, SampleOnly):
                reason = f"a {type(component).__name__} can only be sampled"
            raise UserError(
                f"{where}: '{name}' should be one of {system.trainable}; it cannot be trained, since {reason}"
            )


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
    checkpoint: Checkpoint | None = None,
    resumed: TrainingState | None = None,
    held_out: Pairs | None = None,
) -> None:
    """One round: `settings.steps` updates, or fewer with early stopping.

    trajectories: column `trajectory_id`, and one for each variable that the method needs.
    pairs: columns `chosen_id, rejected_id`.
    number: of the round, from 0.
    log: a JSON object for every update is written there.
    resumed: the state of this round that `checkpoint` has read; its updates are not repeated.
    """
    checkpoint = checkpoint or Checkpoint()
    components = settings.trained(system.trainable)
    accelerator = Accelerator()
    system.to(accelerator.device)
    began = weights_of(system)
    if resumed:
        set_weights(system, resumed.weights)
        set_memories(system, resumed.memories)
    weights = {name: system.components[name].trainable_parameters() for name in components}
    model = accelerator.prepare(PairLoss([weight for name in components for weight in weights[name]], settings))
    groups = [{"params": weights[name], "lr": settings.learning_rate[name]} for name in components]
    optimizer = accelerator.prepare(torch.optim.AdamW(groups, weight_decay=0.0, fused=True))
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, settings.steps)
    intermediates = intermediates_of(system, settings)
    sharing = {"process": accelerator.process_index, "processes": accelerator.num_processes}
    updates = PairBatches(
        system, intermediates, trajectories, pairs, settings, components, seed=seed, number=number, **sharing
    )
    first, spent = 0, 0.0
    if resumed:
        first, spent = resumed.step, resumed.seconds
        optimizer.load_state_dict(resumed.optimizer)
        schedule.load_state_dict(resumed.schedule)
    watch = HeldOut(system, held_out, settings, components, seed) if held_out and settings.eval_every else None
    if watch and resumed:
        watch.state = dict(resumed.held_out)
    is_main = accelerator.is_main_process
    name = f"{title}, round {number + 1}/{settings.rounds}"
    started = time.monotonic() - spent
    with Progress(name, settings.steps, first=first, shown=is_main) as progress:
        for step, batches in enumerate(updates.starting_at(first), first):
            monitored = settings.monitor_every and step % settings.monitor_every == 0
            measured = monitor(system, updates, batches[0], weights, settings) if monitored else {}
            record = accumulate(accelerator, model, batches) | measured
            where = f"update {step + 1} of {settings.steps}"
            check_losses(record, settings, where)
            # Each component is clipped by itself: one's large gradient must not slow the others.
            clip = partial(accelerator.clip_grad_norm_, max_norm=settings.max_grad_norm)
            norms = {name: float(clip(own)) for name, own in weights.items()}
            check_gradients(norms, settings, where)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            check_weights(weights, settings, where)
            record["gradient_norm"] = float(np.hypot.reduce(list(norms.values())))
            record |= {f"gradient_norm_{name}": norm for name, norm in norms.items()}
            if watch and watch.is_due(step):
                record |= watch.measure()
            record["seconds"] = time.monotonic() - started
            log.write(json.dumps({"step": number * settings.steps + step, "round": number} | record) + "\n")
            log.flush()
            progress.update(loss=record["loss"], accuracy=record["accuracy"])
            if watch and watch.has_enough:
                break
            if is_main and checkpoint.is_due and updates.may_start_at(step + 1):
                states = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
                states |= {"began": began, "weights": weights_of(system), "memories": memories_of(system)}
                now = {"round": number, "step": step + 1, "seconds": record["seconds"]}
                seen = {"held_out": watch.state} if watch else {}
                checkpoint.write(**states, **now, **seen, log=Path(log.name).read_text())
    if watch:
        watch.keep_the_best()


def monitor(
    system: System,
    updates: PairBatches,
    batch: MicroBatch,
    weights: Mapping[str, list[nn.Parameter]],
    settings: MethodSettings,
) -> dict[str, float]:
    """The monitor's measurements before an update, of which `batch` is the first micro-batch."""
    link = make_link(settings.link, beta=settings.beta, label_smoothing=settings.label_smoothing)
    cosines = gradient_cosines(batch.log_probs(), weights, link)
    return cosines | drift_of_draws(system, updates.rows, list(weights), updates.seed, updates.number)


def check_losses(record: Mapping[str, float], settings: MethodSettings, where: str) -> None:
    """Raises `UserError` unless the losses, and the log-probabilities that they are made from, are finite."""
    for name in settings.learning_rate:
        for key in (f"chosen_log_prob_{name}", f"chosen_{name}", f"margin_{name}"):
            if not np.isfinite(record.get(key, 0.0)):
                raise _not_finite(f"the log-probabilities of '{name}' are {record[key]}", name, settings, where)
    for key in ("total_loss", "loss"):
        if not np.isfinite(record[key]):
            weights = dict(settings.chosen_weight)
            raise UserError(
                f"beta: {settings.beta} and chosen_weight: {weights} made the {key.replace('_', ' ')} {record[key]} at "
                f"{where}; bring them nearer to 1"
            )


def check_gradients(norms: Mapping[str, float], settings: MethodSettings, where: str) -> None:
    """Raises `UserError` unless the norm of every component's gradient is finite."""
    for name, norm in norms.items():
        if not np.isfinite(norm):
            raise _not_finite(f"the gradient of '{name}' is {norm}", name, settings, where)


def check_weights(weights: Mapping[str, Sequence[Tensor]], settings: MethodSettings, where: str) -> None:
    """Raises `UserError` unless every weight of every component is finite."""
    for name, own in weights.items():
        if not torch.stack([weight.isfinite().all() for weight in own]).all():
            raise _not_finite(f"weights of '{name}' are no longer finite", name, settings, where)


def _not_finite(what: str, name: str, settings: MethodSettings, where: str) -> UserError:
    return UserError(
        f"learning_rate.{name}: {settings.learning_rate[name]} should be lower or, if this is the first update, the "
        f"model of '{name}' or its dtype another one: {what} at {where}"
    )


class PairLoss(nn.Module):
    """`pair_loss` as a module that holds the trained weights, as accelerate's data parallelism needs it."""

    def __init__(self, weights: Sequence[nn.Parameter], settings: MethodSettings):
        super().__init__()
        self.weights = nn.ParameterList(weights)
        self.settings = settings

    def forward(self, log_probs: Callable[[], BatchLogProbs]) -> tuple[Tensor, dict[str, float]]:
        """See `pair_loss`."""
        return pair_loss(log_probs(), self.settings)


def accumulate(accelerator: Accelerator, model: nn.Module, batches: Sequence[MicroBatch]) -> dict[str, float]:
    """Add up the gradients of an update's micro-batches, over all processes.

    Returns the entries of the log, each the mean over the update's pairs.
    """
    total: dict[str, float] = {}
    for batch in batches:
        # The processes exchange gradients once an update, not once a micro-batch.
        with nullcontext() if batch is batches[-1] else accelerator.no_sync(model):
            loss, record = model(batch.log_probs)
            accelerator.backward(loss * batch.weight)
        total = {key: total.get(key, 0.0) + batch.weight * value for key, value in record.items()}
    if accelerator.num_processes == 1:
        return total
    means = accelerator.reduce(torch.tensor(list(total.values()), device=accelerator.device), "mean")
    return dict(zip(total, means.tolist(), strict=True))


def pair_loss(batch: BatchLogProbs, settings: MethodSettings) -> tuple[Tensor, dict[str, float]]:
    """The mean loss of a batch of pairs, a scalar, and its entries for the log.

    To the preference term is added `Σ_k chosen_weight_k · (−log p_k(chosen))`, which keeps the chosen likely, as in RPO
    (Pang et al., arXiv 2404.19733). With hidden intermediates `log p_k` is its mean under their posterior (the EM
    algorithm; our choice).

    batch: log-probabilities of `2·pairs` rows, the chosen ones first.

    Raises `UserError` if the objective does not return a loss for each pair.
    """
    log_probs = batch.components
    ratios = {name: (policy - reference).chunk(2) for name, (policy, reference) in log_probs.items()}
    chosen = {name: ratio[0] for name, ratio in ratios.items()}
    rejected = {name: ratio[1] for name, ratio in ratios.items()}
    margin = margins(chosen, rejected)
    judged = margin
    if batch.marginal is not None:
        likelier, unlikelier = (batch.marginal.policy - batch.marginal.reference).chunk(2)
        judged = {"marginal": likelier - unlikelier}
    total = torch.stack(list(judged.values())).sum(0)
    if settings.length_normalized:
        lengths = {name: batch.lengths[name].chunk(2) for name in margin}
        judged = {name: chosen[name] / lengths[name][0] - rejected[name] / lengths[name][1] for name in margin}
    link = make_link(settings.link, beta=settings.beta, label_smoothing=settings.label_smoothing)
    preference = make_objective(settings.objective)(judged, link)
    if preference.shape != total.shape:
        raise UserError(
            f"objective: '{settings.objective}' should give a loss for each of {len(total)} pairs; it gave the shape "
            f"{tuple(preference.shape)}"
        )
    likelihood = batch.chosen or {name: policy.chunk(2)[0] for name, (policy, _) in log_probs.items()}
    anchors = sum(-settings.chosen_weight[name] * likelihood[name] for name in likelihood)
    loss = (preference + anchors).mean()
    record = {"loss": preference.mean(), "total_loss": loss, "accuracy": (total > 0).float().mean()}
    record["margin"] = total.mean()
    # Where its size stays well below 1 the sigmoid is as good as linear.
    record["scaled_margin"] = settings.beta * total.abs().mean()
    for name in margin:
        record[f"margin_{name}"] = margin[name].mean()
        record[f"scaled_margin_{name}"] = settings.beta * margin[name].abs().mean()
        record[f"chosen_{name}"], record[f"rejected_{name}"] = chosen[name].mean(), rejected[name].mean()
        record[f"chosen_log_prob_{name}"] = likelihood[name].mean()
    record |= {name: measure.mean() for name, measure in batch.measures.items()}
    return loss, {key: float(value.detach()) for key, value in record.items()}
