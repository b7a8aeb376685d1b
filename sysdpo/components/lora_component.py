"""What every model that trains a LoRA adapter shares: the adapter, the reference, its cache, and their shapes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from sysdpo.components.lora import without_adapter
from sysdpo.components.sharding import unsharded

POLICY, REFERENCE = "default", "reference"


class LoraComponent(ABC):
    """A network whose policy is a LoRA adapter, and whose reference is the same network with the adapter off.

    After `rebase_reference` the reference is a frozen copy of the adapter. Without an adapter the component is frozen:
    policy and reference are the same, and nothing is trained. A subclass sets `sharded` and defines `network`.

    LoRA is Hu et al., arXiv 2106.09685; the reference as adapter off is our choice.

    is_trained: whether it has an adapter.
    """

    sharded: bool

    def __init__(self, *, is_trained: bool):
        self.is_trained = is_trained
        self._references: dict[Any, Tensor] = {}
        self._initial: list[Tensor] = []
        self.made_from: dict[str, Any] | None = None

    @property
    @abstractmethod
    def network(self) -> Any:
        """The network that has the adapter."""

    @property
    def memories(self) -> dict[str, MutableMapping[Any, Any]]:
        """Caches of what frozen parts computed, by kind; an entry that is put there is not computed again."""
        return {"references": self._references}

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def unsharded(self) -> AbstractContextManager[None]:
        """A context in which each process has the whole network and may use it without the others."""
        return unsharded(self.network)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The weights of the policy's adapter; empty for a frozen model."""
        return [weight for _, weight in self._policy_weights()]

    def _policy_weights(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, weight) for name, weight in self.network.named_parameters() if f".{POLICY}." in name]

    def _policy_shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(weight.shape) for name, weight in self._policy_weights()}

    @contextmanager
    def _as_reference(self) -> Iterator[None]:
        if REFERENCE not in getattr(self.network, "peft_config", {}):
            with without_adapter(self.network):
                yield
            return
        self.network.set_adapter(REFERENCE)
        try:
            yield
        finally:
            self.network.set_adapter(POLICY)

    def rebase_reference(self) -> None:
        """Make the present policy the reference, at the cost of a second adapter."""
        if not self.is_trained:
            return
        if REFERENCE not in self.network.peft_config:
            self._add_reference()
        weights = get_peft_model_state_dict(self.network, adapter_name=POLICY)
        set_peft_model_state_dict(self.network, weights, adapter_name=REFERENCE)
        self.network.set_adapter(POLICY)
        self._references.clear()

    def _remember_start(self) -> None:
        """Keep a copy of the adapter as it is before it is trained."""
        self._initial = [weight.detach().clone() for weight in self.trainable_parameters()]

    def reset(self) -> None:
        """Put policy and reference back to what they were when the component was made."""
        if REFERENCE in getattr(self.network, "peft_config", {}):
            self._remove_reference()
        for weight, value in zip(self.trainable_parameters(), self._initial, strict=True):
            weight.data.copy_(value)
        self._references.clear()

    @abstractmethod
    def _remove_reference(self) -> None:
        """Remove the adapter `REFERENCE`."""

    @abstractmethod
    def _add_reference(self) -> None:
        """Add a second adapter, `REFERENCE`, of the policy's shape."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the policy's adapter in the format of PEFT or diffusers."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Read an adapter that `save` wrote into the policy; raises `UserError` if it does not fit."""
