"""What sits at the nodes of a system: the one interface that everything rests on, and what only some can do besides."""

from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from sysdpo.method.candidates import Decoder
from sysdpo.method.values import Completion


class LogProbs(NamedTuple):
    """Log-probabilities in nats under the policy and its reference, each `[batch]`, float32 (of tables: their own)."""

    policy: Tensor
    reference: Tensor


class Drift(NamedTuple):
    """What values drawn from the policy say of it, in nats, each `[batch]`, float32.

    kl: of each row an estimate of KL(policy‖reference), or of an upper bound of it.
    entropy: `−log p` under the policy; NaN where the likelihood is known up to a constant alone.
    """

    kl: Tensor
    entropy: Tensor


@runtime_checkable
class Component(Protocol):
    """What can sit at a node. Conditions are tuples holding one value for each parent of the node, in order."""

    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Any]:
        """One value for each condition; a row's value depends on its own seed and condition alone."""
        ...

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]
    ) -> LogProbs:
        """Log-probability of each value; `draw` names each row's Monte-Carlo noise, where there is any."""
        ...

    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]) -> Drift:
        """How far the policy is from its reference, judged by values that the policy has drawn; no gradients."""
        ...

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The parameters that alignment may change; empty for a frozen or deterministic component."""
        ...

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        ...

    def rebase_reference(self) -> None:
        """Make the present policy the reference."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was trained."""
        ...

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        ...


METHODS = sorted(name for name in vars(Component) if not name.startswith("_"))
"""What every component has."""


@runtime_checkable
class Deterministic(Protocol):
    """A component whose value follows from its parents: it contributes a factor of 1, and is never summed over."""

    is_deterministic: Literal[True]


@runtime_checkable
class Decodable(Protocol):
    """A component that generates step by step, so that candidates can be searched for."""

    def decoder(self, conditions: Sequence[tuple[Any, ...]]) -> Decoder:
        """Generation from these conditions, at temperature 1."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """A component that draws at a temperature; at 0 it takes what is likeliest, step by step."""

    temperature: float


@runtime_checkable
class Shardable(Protocol):
    """A component whose weights may be split over the processes of a training."""

    def unsharded(self) -> AbstractContextManager[None]:
        """Within it a process has all weights, and may use them whatever the other processes do."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A component that takes only so many values through its model at once."""

    batch_size: int


@runtime_checkable
class Resettable(Protocol):
    """A component that can be what it was before it was trained."""

    def reset(self) -> None:
        """Policy and reference as they were when the component was made."""
        ...


@runtime_checkable
class Reloadable(Protocol):
    """A component that can be made again from what a folder says of it, by its class's `from_pretrained`."""

    made_from: dict[str, Any] | None
    """The arguments of `from_pretrained`; None where it was made otherwise."""


class Usage(NamedTuple):
    """How a program loads a model without this library.

    library: of the hub's `library_name`. task: of its `pipeline_tag`. code: a program that loads the model and runs it
    on one prompt. exactness: a sentence on how near that comes to the component itself.
    """

    library: str
    task: str
    code: str
    exactness: str


@runtime_checkable
class Exportable(Protocol):
    """A component whose model can be used without this library."""

    def save_model(self, folder: Path, *, merged: bool) -> None:
        """Write the model in `from_pretrained` format, with the adapter in its weights (`merged`) or without it."""
        ...

    def save_adapter(self, folder: Path, *, base: str) -> None:
        """Write the adapter in the ecosystem's own format, for the model that `base` names."""
        ...

    def usage(self, condition: tuple[Any, ...], *, model: str, adapter: str | None = None) -> Usage:
        """How to load what `save_model` and `save_adapter` wrote to these places, and run it on a condition."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A component whose values may be given as texts."""

    def value_of(self, text: str, folder: Path = Path()) -> Any:
        """The value that this text is, as the component would have generated it.

        folder: where the path starts that the text may be.
        """
        ...


@runtime_checkable
class Tokenizing(Protocol):
    """A component whose values are texts with tokens, and which may be given another model's."""

    def recognized(self, value: Completion) -> Completion:
        """The value with its own tokens where they are this text to the component, too; or else the text's."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A component that keeps what its frozen parts have computed."""

    @property
    def device(self) -> torch.device:
        """Where its references are."""
        ...

    @property
    def memories(self) -> dict[str, MutableMapping[Any, Any]]:
        """What is kept, by kind: `references` on the device, the rest in the host's memory."""
        ...
