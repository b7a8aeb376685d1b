"""An attribute of a picture according to CLIP: its position between two texts."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from PIL.Image import Image
from torch import Tensor
from transformers import AutoModel, AutoProcessor, CLIPModel

from sysdpo.applications.images.settings import ImageJudgeSettings
from sysdpo.applications.pretrained import in_batches, load_judge, pixels
from sysdpo.base.errors import UserError
from sysdpo.components.loading import load_pretrained
from sysdpo.method.values import picture_key


class ClipDirection:
    """`σ(s · ⟨e(image), e(high) − e(low)⟩)`, with CLIP's unit embeddings `e` and its learnt scale `s` (about 100).

    This is CLIP's zero-shot probability of the text `high` against the text `low` (Radford et al., arXiv 2103.00020).
    It rises with the picture's projection on the direction from `low` to `high`; using it as an attribute is our
    choice. Raises `UserError` if the model is no CLIP.
    """

    def __init__(self, settings: ImageJudgeSettings):
        self.batch_size = settings.batch_size
        model, revision = settings.model, settings.revision
        self.network = load_judge(AutoModel.from_pretrained, model, revision=revision, dtype=settings.dtype)
        if not isinstance(self.network, CLIPModel):
            raise UserError(
                f"model: '{model}' is a {type(self.network).__name__}, but should be a CLIPModel, say "
                "openai/clip-vit-large-patch14"
            )
        self.processor = load_pretrained(AutoProcessor.from_pretrained, model, revision=revision)

    def attribute(self, images: Sequence[Image], prompts: pd.DataFrame) -> np.ndarray:
        """See `ImageJudge`."""
        poles = self._embed_texts([*prompts["low"], *prompts["high"]]).reshape(2, len(prompts), -1)
        along = (self._embed_images(images) * (poles[1] - poles[0])).sum(-1)
        # In double precision two pictures differ even in the tails of the sigmoid.
        return torch.sigmoid(self.network.logit_scale.cpu().double().exp() * along.double()).numpy()

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> np.ndarray:
        """The cosine of each picture with its text, `[n]` in [-1, 1]."""
        return (self._embed_images(images) * self._embed_texts(texts)).sum(-1).numpy()

    def _embed_images(self, images: Sequence[Image]) -> Tensor:
        return in_batches(self._image_batch, images, self.batch_size, key=picture_key)

    def _image_batch(self, images: Sequence[Image]) -> Tensor:
        pooled = self.network.vision_model(pixel_values=pixels(self.processor, images, self.network)).pooler_output
        return torch.nn.functional.normalize(self.network.visual_projection(pooled).float(), dim=-1)

    def _embed_texts(self, texts: Sequence[str]) -> Tensor:
        return in_batches(self._text_batch, texts, self.batch_size)

    def _text_batch(self, texts: Sequence[str]) -> Tensor:
        encode = partial(self.processor.tokenizer, padding=True, truncation=True, return_tensors="pt")
        # Some checkpoints do not set the tokenizer's maximum length.
        longest = self.network.config.text_config.max_position_embeddings
        encoded = encode(list(texts), max_length=longest).to(self.network.device)
        pooled = self.network.text_model(**encoded).pooler_output
        return torch.nn.functional.normalize(self.network.text_projection(pooled).float(), dim=-1)

    def close(self) -> None:
        """See `ImageJudge`."""
        del self.network
        torch.cuda.empty_cache()
