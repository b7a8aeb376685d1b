"""Attributes of a picture by a regressor from a folder or the hub."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification

from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.settings import ImageJudgeSettings, folder_config
from sysdpo.applications.pretrained import in_batches, load_judge, pixels
from sysdpo.base.devices import process_state
from sysdpo.base.errors import UserError
from sysdpo.components.loading import load_pretrained
from sysdpo.method.values import picture_key

# How outputs become attributes, by the configuration's `problem_type`.
READINGS = {"regression": lambda outputs: outputs, "multi_label_classification": torch.sigmoid}


class ImageRegressor:
    """A transformers image classifier with one output per attribute, named by its `id2label`.

    With the `problem_type` `regression` an output is the attribute itself, fitted to [0, 1] but not clipped, so that
    pictures do not tie at the ends; with `multi_label_classification` it is the attribute's logit. A folder of
    `AttributeRegressor` works, too. Raises `UserError` for anything else.
    """

    def __init__(self, settings: ImageJudgeSettings):
        self.model, self.batch_size = settings.model, settings.batch_size
        if "attributes" in folder_config(settings.model):
            ours = AttributeRegressor.load(Path(settings.model)).to(process_state().device)
            self.names = list(ours.attributes)
            self._score = lambda images: torch.from_numpy(ours.score(images))
            return
        revision = settings.revision
        load = AutoModelForImageClassification.from_pretrained
        network = load_judge(load, settings.model, revision=revision, dtype=settings.dtype)
        kind = network.config.problem_type
        if kind not in READINGS:
            raise UserError(
                f"model: '{settings.model}' has the problem_type {kind}, but should have one of {list(READINGS)}"
            )
        processor = load_pretrained(AutoImageProcessor.from_pretrained, settings.model, revision=revision)
        self.names = [name for _, name in sorted(network.config.id2label.items())]

        def score(images: Sequence[Image]) -> Tensor:
            return READINGS[kind](network(pixel_values=pixels(processor, images, network)).logits.float())

        self._score = score

    def attribute(self, images: Sequence[Image], prompts: pd.DataFrame) -> np.ndarray:
        """See `ImageJudge`; raises `UserError` for an attribute that the regressor does not know."""
        if unknown := sorted(set(prompts["attribute"]) - set(self.names)):
            raise UserError(
                f"model: '{self.model}' should know every attribute that is asked; it lacks {unknown} and has "
                f"{self.names}"
            )
        scores = in_batches(self._score, images, self.batch_size, key=picture_key).double().numpy()
        return scores[np.arange(len(scores)), [self.names.index(name) for name in prompts["attribute"]]]

    def close(self) -> None:
        """See `ImageJudge`."""
        del self._score
        torch.cuda.empty_cache()
