"""Settings of the two systems that draw series of images.

No model library is imported here: Snakemake checks the configuration in an environment without one.
"""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sysdpo.applications.images.attributes import ATTRIBUTES as SERIES_ATTRIBUTES
from sysdpo.applications.images.grammar import REQUESTS, WORDS
from sysdpo.applications.settings import SmallLlamaSettings
from sysdpo.base.settings import (
    Count,
    DType,
    Positive,
    ProperShare,
    Seed,
    SetOf,
    Settings,
    Share,
    Whole,
    WrongSetting,
    one_of,
)
from sysdpo.components.settings import DiffusionSettings, LanguageModelSettings, require_models
from sysdpo.method.config import SystemSettings

Pixels = Annotated[int, Field(ge=32, le=10**6, multiple_of=8)]


class Components(Settings):
    """The models of the system."""

    writer: LanguageModelSettings
    """The language model, which writes the captions."""
    painter: DiffusionSettings
    """The diffusion model, which draws them."""


class ScenePrompts(Settings):
    """How many prompts each split has, and how they are drawn."""

    train: Count = 240
    """Prompts for trajectories, preference pairs and training."""
    validation: Count = 60
    """Prompts for choosing settings."""
    test: Count = 200
    """Prompts for comparing methods."""
    unseen: ProperShare = 0.47
    """The share of scenes (an attribute, a fur and a scarf) that occur only in held-out prompts."""
    seed: Seed = 0
    """Seed of the draw of prompts and splits."""


class WriterSettings(SmallLlamaSettings):
    """How the language model is pretrained, and its deliberate flaws."""

    answers: Count = 12000
    """Number of training answers."""
    ordered: Share = 0.5
    """The share of training answers whose three words rise (or fall) as requested."""
    alike: Share = 0.3
    """The share in which at least two of the three words are equal, in the requested order or not. The rest have three
    different words in random order."""
    reversed: SetOf[str] = ()
    """Requests, such as `calmer`, that it tends to answer in the opposite direction."""
    reversal: Share = 0.6
    """The share of training answers to those requests in the opposite direction. Above one half, even its most likely
    answer is wrong there."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.reversed:
            one_of("reversed", name, list(REQUESTS.values()))
        if self.ordered + self.alike > 1:
            raise WrongSetting(("alike",), f"{self.alike} and ordered, {self.ordered}, should be at most 1 together")
        return self


class ModelOfPictures(Settings):
    """How a small diffusion model is pretrained."""

    images: Count = 8000
    """Number of rendered training pictures."""
    steps: Count = 1250
    """Updates."""
    batch_size: Count = 64
    """Pictures in an update."""
    learning_rate: Positive = 4e-3
    """Peak learning rate."""
    width: Count = 128
    """Hidden size of the transformer."""
    layers: Count = 4
    """Number of layers."""
    components: Count = 64
    """Principal components per image patch, the channels of a latent."""
    size: Pixels = 32
    """Pixels on a side."""


class PainterSettings(ModelOfPictures):
    """How the diffusion model is pretrained, and its deliberate flaws."""

    misread: Share = 0.2
    """The share of training pictures that show a random word's level."""
    exaggerated: SetOf[str] = ()
    """Words drawn too far from the middle level."""
    flattened: SetOf[str] = ()
    """Words drawn too close to the middle level."""
    exaggeration: Annotated[float, Field(ge=1, le=10**9)] = 1.5
    """Factor by which exaggerated words are farther from the middle."""
    flattening: Share = 0.6
    """Factor by which flattened words are closer to the middle."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        words = [word for words in WORDS.values() for word in words]
        for section in ("exaggerated", "flattened"):
            for name in getattr(self, section):
                one_of(section, name, words)
        return self


class RegressorSettings(Settings):
    """How the regressor that judges images is fitted."""

    images: Count = 6000
    """Number of rendered training pictures."""
    steps: Count = 600
    """Updates."""
    batch_size: Count = 64
    """Pictures in an update."""
    learning_rate: Positive = 2e-3
    """Peak learning rate."""
    size: Pixels = 32
    """Pixels on a side, as for the painter."""


class Foundation(Settings):
    """How the workflow pretrains the models, and their deliberate flaws."""

    writer: WriterSettings
    """How the language model is pretrained, and its deliberate flaws."""
    painter: PainterSettings
    """How the diffusion model is pretrained, and its deliberate flaws."""
    regressor: RegressorSettings
    """How the regressor that judges images is fitted."""


class ProgressiveImages(SystemSettings, extra="forbid"):
    """A language model writes three captions, a diffusion model draws them; the workflow pretrains both."""

    benchmark: ClassVar[str] = "sysdpo.applications.images.progressive_images:ProgressiveImagesBenchmark"
    components: Components  # type: ignore[assignment]
    """The models of the system."""
    prompts: ScenePrompts = ScenePrompts()
    """How many prompts each split has, and how they are drawn."""
    foundation: Foundation
    """How the workflow pretrains the models, and their deliberate flaws."""


def painter_arguments(settings: DiffusionSettings, foundation: Path, size: int) -> dict[str, Any]:
    """What `from_pretrained` takes: of the configured painter, or of the one of this size that the workflow makes."""
    told = settings.arguments
    if settings.model is not None:
        return told
    pipeline = "sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline"
    sampling = dict(told["sampling"], height=size, width=size)
    return told | {"model": foundation / "painter", "pipeline": pipeline, "sampling": sampling}


class SeriesPrompts(Settings):
    """How many prompts each split has, and how they are drawn."""

    train: Count = 1000
    """Prompts for trajectories, preference pairs and training."""
    validation: Count = 100
    """Prompts for choosing settings."""
    test: Count = 200
    """Prompts for comparing methods, half of them unseen in content or phrasing."""
    unseen_contents: Whole = 50
    """How many contents (an attribute of a subject) occur only in the test split."""
    unseen_phrasings: Whole = 1
    """How many phrasings occur only in the test split."""
    attributes: SetOf[str] = ()
    """The attributes in prompts, such as those that a regressor knows; empty for all."""
    seed: Seed = 0
    """Seed of the draw of prompts and splits."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.attributes:
            one_of("attributes", name, [attribute.name for attribute in SERIES_ATTRIBUTES])
        return self


class ImageJudgeSettings(Settings):
    """A model that measures an attribute in pictures."""

    kind: Literal["clip", "regressor"]
    """CLIP between two texts (see `ClipDirection`), or a regressor of attributes (see `ImageRegressor`)."""
    model: str
    """A hub id or a local folder in `from_pretrained` format."""
    revision: str | None = None
    """The commit or tag of a hub id; a folder has none."""
    batch_size: Count = 32
    """Pictures or texts in a forward pass."""
    dtype: DType = "float32"
    """The number format of the weights."""

    @property
    def attributes(self) -> tuple[str, ...] | None:
        """The attributes that a regressor in a local folder knows; None if unknown, and for CLIP, which knows any."""
        config = folder_config(self.model) if self.kind == "regressor" else {}
        return tuple(config.get("attributes") or (config.get("id2label") or {}).values()) or None


def folder_config(model: str) -> dict[str, Any]:
    """The `config.json` of a local folder; empty if there is none."""
    try:
        return dict(json.loads((Path(model) / "config.json").read_text()))
    except (OSError, ValueError, TypeError):
        return {}


class PictureSeries(SystemSettings, extra="forbid"):
    """A pretrained language model writes three captions, a pretrained diffusion model draws them."""

    benchmark: ClassVar[str] = "sysdpo.applications.images.picture_series:PictureSeriesBenchmark"
    components: Components  # type: ignore[assignment]
    """The models of the system."""
    prompts: SeriesPrompts = SeriesPrompts()
    """How many prompts each split has, and how they are drawn."""
    scorer: ImageJudgeSettings
    """The model whose scores make the preferences."""
    judge: ImageJudgeSettings | None = None
    """A second model that measures the attribute in held-out pictures, independently of the scorer."""

    @model_validator(mode="after")
    def _pretrained(self) -> Self:
        require_models(self.components)
        return self
