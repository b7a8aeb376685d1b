"""What generates a node: the interface of every component, and optional protocols for what only some can do."""

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
    """How far the policy is from its reference, estimated from values that it drew: nats, each `[batch]`, float32.

    kl: for each row an estimate of KL(policy‖reference), or of an upper bound of it; the mean over rows is the
    estimate to report.
    entropy: `−log p` under the policy; NaN where the likelihood is only known up to a constant.
    """

    kl: Tensor
    entropy: Tensor


@runtime_checkable
class Component(Protocol):
    """What generates the value of a node.

    A condition is a tuple with the value of each parent of the node, in their order; a batch has one for each row.
    """

    def sample(self, conditions: Sequence[tuple[Any, ...]], *, seeds: Sequence[int]) -> list[Any]:
        """Draw one value for each condition; a row depends on its own seed and condition alone.

        seeds: a number for each condition.
        """
        ...

    def log_probs(
        self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]
    ) -> LogProbs:
        """Log-probability of each value given its condition, under policy and reference: nats, each `[batch]`.

        Gradients flow to `trainable_parameters` through the policy's alone. draw: a number for each row that names its
        Monte-Carlo noise; where the log-probability is exact it has no effect.
        """
        ...

    def drift(self, conditions: Sequence[tuple[Any, ...]], values: Sequence[Any], *, draw: Sequence[int]) -> Drift:
        """How far the policy is from its reference, estimated from values that the policy drew; without gradients.

        draw: as in `log_probs`.
        """
        ...

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The parameters that training changes; empty for a frozen or deterministic component."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the component to a device; its parameters stay the same objects."""
        ...

    def rebase_reference(self) -> None:
        """Make the present policy the reference, as every round of a training after the first does."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was trained into a folder."""
        ...

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; raises `UserError` if it is of another model."""
        ...


METHODS = sorted(name for name in vars(Component) if not name.startswith("_"))
"""The names of the methods that every component has."""


@runtime_checkable
class Deterministic(Protocol):
    """A component whose value follows from its parents: a factor of 1, which needs no candidates.

    is_deterministic: always True; it marks the component.
    """

    is_deterministic: Literal[True]


@runtime_checkable
class SampleOnly(Protocol):
    """A component that can be sampled and whose probabilities cannot be known, as of a model behind an API.

    It is never trained. Where it is hidden, `sampling` needs an estimator whose candidates are draws, `importance` say:
    its probability cancels against that of having drawn it, so it counts as a factor of 1.

    is_sample_only: always True; it marks the component.
    """

    is_sample_only: Literal[True]


@runtime_checkable
class Decodable(Protocol):
    """A component that generates step by step, as `sampling` needs it of a hidden node."""

    def decoder(self, conditions: Sequence[tuple[Any, ...]]) -> Decoder:
        """Step-by-step generation from these conditions by the policy, at temperature 1, without gradients."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """A component that samples at a temperature.

    temperature: at 0 it takes the likeliest token at each step. Only `sample` depends on it.
    """

    temperature: float


@runtime_checkable
class Shardable(Protocol):
    """A component whose weights may be split over the processes of a training."""

    def unsharded(self) -> AbstractContextManager[None]:
        """A context in which a process has all weights, and may use them without the other processes."""
        ...


@runtime_checkable
class Batched(Protocol):
    """A component that limits how many values go through its model at once.

    batch_size: the most values in a forward pass without gradients.
    """

    batch_size: int


@runtime_checkable
class Resettable(Protocol):
    """A component that can go back to where it started."""

    def reset(self) -> None:
        """Put policy and reference back to what they were when the component was made."""
        ...


@runtime_checkable
class Reloadable(Protocol):
    """A component that can be made again from saved arguments, by its class's `from_pretrained`."""

    made_from: dict[str, Any] | None
    """The arguments of `from_pretrained`; None if the component was made in another way."""


class Usage(NamedTuple):
    """How a program loads a model without this library.

    library: the hub's `library_name`. task: the hub's `pipeline_tag`. code: a program that loads the model and runs it
    on one prompt. exactness: a sentence on how closely that agrees with the component itself.
    """

    library: str
    task: str
    code: str
    exactness: str


@runtime_checkable
class Exportable(Protocol):
    """A component whose model can be used without this library."""

    def save_model(self, folder: Path, *, merged: bool) -> None:
        """Write the model in `from_pretrained` format.

        merged: whether the adapter is added to its weights; without, it is the base model.
        """
        ...

    def save_adapter(self, folder: Path, *, base: str) -> None:
        """Write the adapter in the format of PEFT or diffusers.

        base: the base model that the adapter names.
        """
        ...

    def usage(self, condition: tuple[Any, ...], *, model: str, adapter: str | None = None) -> Usage:
        """How to load what `save_model` and `save_adapter` wrote, and run it.

        condition: what it is run on. model, adapter: the folders that the program loads.
        """
        ...


@runtime_checkable
class Reader(Protocol):
    """A component whose values can be read from texts, as preference files have them."""

    def value_of(self, text: str, folder: Path = Path()) -> Any:
        """The value that this text stands for, as the component would have generated it.

        folder: where relative paths start, if the text is a path.
        """
        ...


@runtime_checkable
class Tokenizing(Protocol):
    """A component whose values are texts with tokens, and which may be given another model's."""

    def recognized(self, value: Completion) -> Completion:
        """The value with its own tokens where they are this text to the component, too; or else the text's."""
        ...


@runtime_checkable
class Templated(Protocol):
    """A component that reads of its node's inputs what a template of its own names."""

    @property
    def reads(self) -> str | None:
        """Template and system prompt, with `{0}`, `{1}` for the inputs; None if it does not read by a template."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A component with a cache of what its frozen parts computed, which a checkpoint keeps."""

    @property
    def device(self) -> torch.device:
        """The device that cached references are on."""
        ...

    @property
    def memories(self) -> dict[str, MutableMapping[Any, Any]]:
        """The caches by kind: `references` on the device, the others in the host's memory."""
        ...
