"""Preference accuracy on held-out pairs during training, and early stopping by it."""

from collections.abc import Sequence
from typing import Any

from accelerate.utils import broadcast_object_list

from sysdpo.base.devices import process_state
from sysdpo.method.checkpoints import forgetful, set_weights, weights_of
from sysdpo.method.held_out import Pairs, intermediates_for, pair_margins, rightness
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import System


class HeldOut:
    """Measures a round on held-out pairs, and with early stopping keeps the best weights.

    state: `best`, the highest accuracy so far, the `weights` that it was measured at, and `since`, the measurements
    after it.
    """

    def __init__(self, system: System, held_out: Pairs, settings: MethodSettings, components: Sequence[str], seed: int):
        self.system, self.pairs, self.settings = system, held_out, settings
        self.components, self.seed = components, seed
        # Its own: what the training has prepared for its coming updates stays as it is.
        self.intermediates = intermediates_for(system, held_out[0].columns, settings.candidates)
        self.state: dict[str, Any] = {}

    def is_due(self, step: int) -> bool:
        """Whether to measure after this update; with early stopping the last one counts too."""
        is_last = self.settings.early_stopping is not None and step + 1 == self.settings.steps
        return (step + 1) % self.settings.eval_every == 0 or is_last

    def measure(self) -> dict[str, float]:
        """`held_out_accuracy` and `held_out_margin` of the present system."""
        with self.system.unsharded(), forgetful(self.system):
            margin = pair_margins(self.system, self.pairs, self.intermediates, self.components, seed=self.seed)
        accuracy = float(rightness(margin).mean())
        if self.settings.early_stopping is not None:
            shared = [accuracy]
            if process_state().num_processes > 1:  # or rounding might stop one process and not another
                broadcast_object_list(shared)
            if shared[0] > self.state.get("best", -1.0):
                self.state = {"best": shared[0], "weights": weights_of(self.system), "since": 0}
            else:
                self.state = {**self.state, "since": self.state["since"] + 1}
        return {"held_out_accuracy": accuracy, "held_out_margin": float(margin.mean())}

    @property
    def has_enough(self) -> bool:
        """Whether the round should end."""
        patience = self.settings.early_stopping
        return patience is not None and self.state.get("since", 0) >= patience

    def keep_the_best(self) -> None:
        """With early stopping, go back to the weights of the best measurement."""
        if "weights" in self.state:
            set_weights(self.system, self.state["weights"])
