"""What a model that judges takes: of images (CLIP, an attribute regressor) or of texts (a sequence classifier)."""

from functools import cached_property
from typing import Any

import torch

from sysdpo.plan.meter import NOTHING, Meter, Usage
from sysdpo.plan.models import config_folder, parameters, scoring_network, weight_bytes

BATCH = 32
IMAGE_SIDE = 224  # pixels, of classifiers that do not say


class ScoringPlan:
    """A frozen model that sees each trajectory's outputs: so many images, or a text of so many tokens."""

    def __init__(self, network: Any, *, images: int, tokens: int, size: int = 0, batch_size: int = BATCH):
        self.network, self.images, self.batch_size = network, images, batch_size
        longest = getattr(network.config, "max_position_embeddings", tokens) if hasattr(network, "config") else tokens
        self.tokens, self.size = min(tokens, longest), size
        self.parameters, self.weights = parameters(network), weight_bytes(network)

    @classmethod
    def of(cls, settings: dict[str, Any], where: str, *, images: int, tokens: int) -> "ScoringPlan":
        """The model that a section `scorer` or `judge` names; `UserError` where its configs are not known."""
        network = scoring_network(config_folder(settings["model"], f"{where}.model"), settings.get("dtype", "float32"))
        return cls(network, images=images, tokens=tokens, batch_size=settings.get("batch_size", BATCH))

    @property
    def judges_images(self) -> bool:
        """Whether it looks at images, and not at texts."""
        looks = hasattr(self.network, "vision_model") or not hasattr(self.network, "config")
        return looks or self.network.main_input_name == "pixel_values"

    @cached_property
    def one(self) -> Usage:
        """One image, or one text."""
        network = getattr(self.network, "vision_model", self.network)
        with torch.device("meta"), torch.no_grad(), Meter() as meter, meter.phase() as found:
            if self.judges_images:
                side = self.size or getattr(network.config, "image_size", IMAGE_SIDE)
                network(torch.empty(2, 3, side, side, dtype=next(network.parameters()).dtype))
            else:
                network(input_ids=torch.zeros(2, self.tokens, dtype=torch.long))
        return found[0].rows(1 / 2)

    def judging(self, trajectories: float) -> Usage:
        """So many trajectories, `batch_size` rows at a time."""
        rows = trajectories * (self.images if self.judges_images else 1)
        batch = min(rows, self.batch_size)
        return self.one.rows(batch).times(rows / batch) if rows else NOTHING
