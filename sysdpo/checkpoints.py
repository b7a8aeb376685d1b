"""A training that was cut short, by a cluster's time limit or a failing node, goes on where it was."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sysdpo.files import whole
from sysdpo.system import System

EVERY = 600.0
"""Seconds between two checkpoints; adapters and their optimizer take a second or two to write."""

Weights = Mapping[str, Sequence[torch.Tensor]]
"""Of each component, in the order of its `trainable_parameters`."""


class Checkpoint:
    """The last moment of a training, in a file beside what it makes.

    path: None keeps none. fingerprint: of the training's settings and data; a file with another one is not read.
    """

    def __init__(self, path: Path | None = None, fingerprint: str = ""):
        self.path, self.fingerprint = path, fingerprint
        self.written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return self.path is not None and time.monotonic() - self.written >= EVERY

    def read(self) -> dict[str, Any] | None:
        """What was written last; None if nothing was, or for another training."""
        if self.path is None or not self.path.exists():
            return None
        moment = torch.load(self.path, map_location="cpu", weights_only=True)
        return moment if moment.pop("fingerprint") == self.fingerprint else None

    def write(self, **moment: Any) -> None:
        """Replace the last one."""
        assert self.path is not None
        with whole(self.path) as path:
            torch.save({"fingerprint": self.fingerprint} | moment, path)
        self.written = time.monotonic()

    def clear(self) -> None:
        """The training is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def fingerprint(files: Sequence[Path], *settings: Any) -> str:
    """Of the content of files, and of settings as they print."""
    digest = hashlib.blake2b(repr(settings).encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def weights_of(system: System) -> dict[str, list[torch.Tensor]]:
    """A copy, on the CPU, of every weight that training may change."""
    trainable = {name: system.components[name].trainable_parameters() for name in system.trainable}
    return {name: [weight.detach().cpu().clone() for weight in weights] for name, weights in trainable.items()}


def set_weights(system: System, weights: Weights) -> None:
    """Back to such a copy, in place."""
    for name, values in weights.items():
        for weight, value in zip(system.components[name].trainable_parameters(), values, strict=True):
            weight.data.copy_(value)
