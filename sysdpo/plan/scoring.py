"""What a model that judges takes: of images (CLIP, an attribute regressor) or of texts (a sequence classifier)."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from sysdpo.plan.meter import NOTHING, Meter, Usage
from sysdpo.plan.models import config_folder, parameters, scoring_network, weight_bytes

BATCH = 32
IMAGE_SIDE = 224  # pixels, of classifiers that do not say


class ScoringPlan:
    """A frozen model that sees each trajectory's outputs: so many images, or a text.

    tokens: of a usual text, and of the longest. size: the images' height and width in pixels.
    """

    def __init__(
        self, network: Any, *, images: int, tokens: tuple[int, int] = (0, 0), size: int = 0, batch_size: int = BATCH
    ):
        self.network, self.images, self.typical, self.longest, self.size = network, images, *tokens, size
        # A decoder that knows no padding is given one text at a time, see `sysdpo.applications.answers.reward_model`.
        config = getattr(network, "config", None)
        unpadded = not self.judges_images and getattr(config, "pad_token_id", None) is None
        self.batch_size = 1 if unpadded else batch_size
        self.parameters, self.weights = parameters(network), weight_bytes(network)

    @classmethod
    def of(cls, settings: Mapping[str, Any], where: str, *, images: int, tokens: tuple[int, int]) -> "ScoringPlan":
        """The model that a section `scorer` or `judge` names; `UserError` where its configs are not known."""
        network = scoring_network(config_folder(settings["model"], f"{where}.model"), settings.get("dtype", "float32"))
        limits = [settings.get("max_length"), getattr(network.config, "max_position_embeddings", None)]
        most = min((limit for limit in limits if limit), default=max(tokens))
        usual, longest = (min(each, most) for each in tokens)
        return cls(network, images=images, tokens=(usual, longest), batch_size=settings.get("batch_size", BATCH))

    @property
    def judges_images(self) -> bool:
        """Whether it looks at images, and not at texts."""
        looks = hasattr(self.network, "vision_model") or not hasattr(self.network, "config")
        return looks or self.network.main_input_name == "pixel_values"

    @property
    def tokens(self) -> int:
        """Of a text, as usual."""
        return 0 if self.judges_images else self.typical

    @cached_property
    def one(self) -> Usage:
        """One image, or one text: the arithmetic of a usual one, the memory of the longest."""
        if not self.judges_images:
            longest = self._text(self.longest)
            return longest if self.typical == self.longest else replace(self._text(self.typical), peak=longest.peak)
        network = getattr(self.network, "vision_model", self.network)
        config = getattr(network, "config", None)
        side = self.size or getattr(config, "image_size", IMAGE_SIDE)
        with torch.device("meta"), torch.no_grad(), Meter() as meter, meter.phase() as found:
            network(torch.empty(2, 3, side, side, dtype=next(network.parameters()).dtype))
        return found[0].rows(1 / 2)

    def _text(self, tokens: int) -> Usage:
        with torch.device("meta"), torch.no_grad(), Meter() as meter, meter.phase() as found:
            self.network(input_ids=torch.zeros(1, tokens, dtype=torch.long))
        return found[0]

    def judging(self, trajectories: float) -> Usage:
        """So many trajectories, of each of their images `batch_size` at a time."""
        batch = min(trajectories, self.batch_size)
        rows = trajectories * (self.images if self.judges_images else 1)
        return self.one.rows(batch).times(rows / batch) if rows else NOTHING
