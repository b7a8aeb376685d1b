"""The pretraining loop of the small foundation models."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from sysdpo.base import numerics
from sysdpo.base.progress import Progress

numerics.use_kernels()


def fit(
    name: str,
    modules: torch.nn.Module,
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    average: float | None = None,
) -> None:
    """Minimise `loss(step)` over the weights of `modules`, in place.

    AdamW with betas (0.9, 0.99), 5 % warm-up and cosine decay. average: the decay of an exponential moving average of
    the weights, which replaces them at the end (None: the last weights are kept).
    """
    weights: list[Tensor] = list(modules.parameters())
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    averaged = copy.deepcopy(modules) if average else None
    averages: list[Tensor] = list(averaged.parameters()) if averaged is not None else []
    modules.train()
    with Progress(name, steps) as progress:
        for step in range(steps):
            value = loss(step)
            value.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if averaged is not None:
                decay = min(average or 0.0, (1 + step) / (10 + step))
                with torch.no_grad():
                    torch._foreach_lerp_(averages, weights, 1 - decay)
            progress.update(loss=value.item())
    if averaged is not None:
        modules.load_state_dict(averaged.state_dict())
    modules.eval()
