"""A training that was cut short, by a cluster's time limit or a failing node, goes on where it was.

A checkpoint is one safetensors file: tensors, and beside them the rest as JSON. It has a checksum over all of its
content, and checksums of everything that the training depends on (`sysdpo.run.fingerprint`). One that is damaged or of
another training is set aside under another name, and the training begins anew: no checkpoint ever stops a training.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sysdpo.base.devices import process_state
from sysdpo.base.errors import UserError, tell
from sysdpo.base.files import unused_name, whole
from sysdpo.base.packing import pack, unpack
from sysdpo.method.component import Remembering
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System

EVERY = 600.0
"""Seconds between two checkpoints; adapters and their optimizer take a second or two to write."""

FORMAT = "sysdpo checkpoint 2"
TREE = "tree"
"""The tensor that holds everything but tensors, as the bytes of JSON."""

MEMORY_LIMIT = 2**30
"""Bytes of such memories that a checkpoint takes along; beyond them a training ends equal up to rounding alone."""


Weights = Mapping[str, Sequence[torch.Tensor]]
"""Of each component, in the order of its `trainable_parameters`."""


@dataclass(frozen=True)
class TrainingState:
    """Where a training was interrupted, and everything that its updates have changed.

    round: its number. step: of the next update in it. began, weights: of every trainable component, at the beginning of
    the round and now. memories: see `memories_of`. seconds: spent in this round. log: the text of `training.jsonl`.
    held_out: the state of `HeldOut`.
    """

    round: int
    step: int
    began: Weights
    weights: Weights
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    memories: Mapping[str, Mapping[str, Any]]
    seconds: float
    log: str
    held_out: Mapping[str, Any] = field(default_factory=dict)

    def check_fits(self, system: System, settings: MethodSettings) -> None:
        """Raises `ValueError` unless this can be a state of a training of the system with these settings."""
        expected = {name: list(map(_shape, weights)) for name, weights in weights_of(system).items()}
        for found in (self.began, self.weights):
            if {name: list(map(_shape, weights)) for name, weights in found.items()} != expected:
                raise ValueError("its weights have other names or shapes")
        if not (0 <= self.round < settings.rounds and 0 < self.step <= settings.steps):
            raise ValueError(f"it is at update {self.step} of round {self.round}")


class Checkpoint:
    """The state of a training, in a file beside what it makes.

    path: of the file; None keeps no checkpoints. fingerprint: checksums of what the training depends on, by name; a
    file with other checksums is not used. every: seconds between two checkpoints.
    """

    def __init__(self, path: Path | None = None, fingerprint: Mapping[str, str] | None = None, *, every: float = EVERY):
        self.path, self.fingerprint, self.every = path, dict(fingerprint or {}), every
        self.written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        return self.path is not None and time.monotonic() - self.written >= self.every

    def read(self, system: System, settings: MethodSettings) -> TrainingState | None:
        """The last state of this training; None if there is none that can be used.

        A file that cannot be used is renamed, with one line on stderr. All processes of a training get the same result.
        """
        if self.path is None:
            return None
        processes = process_state()
        state, problem = self._read(system, settings) if self.path.exists() else (None, None)
        main = [(state is not None, problem)]
        if processes.num_processes > 1:
            broadcast_object_list(main)
        is_there, problem = main[0]
        if problem and processes.is_main_process:
            self._set_aside(problem)
        if is_there and state is None:
            raise UserError(f"--checkpoint: '{self.path}' should be on a disk that all processes of a training see")
        return state if is_there else None

    def _read(self, system: System, settings: MethodSettings) -> tuple[TrainingState | None, str | None]:
        """The state, or else the reason why the file does not belong to this training."""
        assert self.path is not None
        try:
            described, tree = _read_file(self.path)
            if others := sorted(dict(self.fingerprint.items() ^ described.items())):
                return None, f"is of another training, which differs in {', '.join(others)}"
            state = TrainingState(**tree)
            state.check_fits(system, settings)
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            return None, f"cannot be read ({(str(error).strip() or repr(error)).splitlines()[0]})"
        return state, None

    def _set_aside(self, problem: str) -> None:
        assert self.path is not None
        aside = unused_name(self.path.with_name(f"{self.path.name}.unusable"))
        try:
            self.path.rename(aside)
        except OSError as error:
            raise UserError(
                f"--checkpoint: '{self.path}' {problem} and cannot be renamed ({error.strerror}); move it away"
            ) from error
        tell(f"checkpoint: '{self.path}' {problem}; it is now '{aside.name}', and the training begins anew")

    def write(self, **state: Any) -> None:
        """Replace the file by a `TrainingState` with these fields."""
        assert self.path is not None
        tensors: dict[str, torch.Tensor] = {}
        values = TrainingState(**state)

        def put(value: Any) -> dict[str, str] | None:
            if not isinstance(value, torch.Tensor):
                return None
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous()
            return {"tensor": name}

        tree = pack({part.name: getattr(values, part.name) for part in fields(values)}, put)
        tensors[TREE] = torch.frombuffer(bytearray(json.dumps(tree).encode()), dtype=torch.uint8)
        described = {"format": FORMAT, "fingerprint": json.dumps(self.fingerprint)}
        described["checksum"] = _checksum(described, tensors.items())
        with whole(self.path) as path:
            save_file(tensors, path, described)
        self.written = time.monotonic()

    def clear(self) -> None:
        """Remove the file: the training is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _read_file(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The fingerprint and the state in a file; a damaged file raises one of many kinds of errors."""
    with safe_open(path, "pt") as file:
        described = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    if described.get("format") != FORMAT:
        raise ValueError("it is no checkpoint of this version")
    if described.pop("checksum", None) != _checksum(described, tensors.items()):
        raise ValueError("its checksum is not that of its content")
    tree = json.loads(tensors.pop(TREE).numpy().tobytes())
    return json.loads(described["fingerprint"]), unpack(tree, lambda _, name: tensors[name])


def _checksum(described: Mapping[str, str], tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.blake2b(json.dumps(dict(described), sort_keys=True).encode(), digest_size=32)
    for name, tensor in sorted(tensors, key=lambda named: named[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _shape(weight: torch.Tensor) -> tuple[int, ...]:
    return tuple(weight.shape)


def weights_of(system: System) -> dict[str, list[torch.Tensor]]:
    """A copy, on the CPU, of every weight that training may change."""
    trainable = {name: system.components[name].trainable_parameters() for name in system.trainable}
    return {name: [weight.detach().cpu().clone() for weight in weights] for name, weights in trainable.items()}


def set_weights(system: System, weights: Weights) -> None:
    """Go back to weights that `weights_of` copied, in place."""
    for name, values in weights.items():
        for weight, value in zip(system.components[name].trainable_parameters(), values, strict=True):
            weight.data.copy_(value)


def memories_of(system: System) -> dict[str, dict[str, Any]]:
    """The caches of each `Remembering` component.

    Computed again in another batch their entries would differ in the last bits, and so would the end of the training.
    The result is empty if they are too large, or if several processes train, each with caches of its own.
    """
    if process_state().num_processes > 1:
        return {}
    parts = system.components.items()
    memories = {name: part.memories for name, part in parts if isinstance(part, Remembering)}
    size = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(memories))
    return memories if size <= MEMORY_LIMIT else {}


def set_memories(system: System, memories: Mapping[str, Mapping[str, Any]]) -> None:
    """Fill the caches of each component with what `memories_of` returned."""
    for name, kept in memories.items():
        component = system.components[name]
        assert isinstance(component, Remembering)
        for memory, values in kept.items():
            # References are beside the policy's results; what encoders gave is kept in the host's memory.
            device = component.device if memory == "references" else torch.device("cpu")
            component.memories[memory].update(_on(values, device))


@contextmanager
def forgetful(system: System) -> Iterator[None]:
    """A context in which components may read their caches; entries that are added within it are dropped at its end.

    Computed in another batch these would differ in the last bits, and so would everything that is made from them.
    """
    parts = [part for part in system.components.values() if isinstance(part, Remembering)]
    memories = [memory for part in parts for memory in part.memories.values()]
    known = [set(memory) for memory in memories]
    try:
        yield
    finally:
        for memory, keys in zip(memories, known, strict=True):
            for key in set(memory) - keys:
                del memory[key]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, Mapping):
        return {key: _on(inner, device) for key, inner in value.items()}
    return value.to(device)
