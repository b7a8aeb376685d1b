"""What a configuration says of a crew.

No model library is imported here: Snakemake checks the configuration in an environment that has none.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from sysdpo.applications.images.settings import ModelOfPictures, RegressorSettings
from sysdpo.applications.settings import SmallLlamaSettings, SplitSizes
from sysdpo.base.settings import Count, ProperShare, Settings, Share
from sysdpo.components.settings import DiffusionSettings, LanguageModelSettings, VisionLanguageModelSettings
from sysdpo.method.config import SystemSettings


class CrewComponents(Settings):
    """The models of the system."""

    writer: LanguageModelSettings
    """The language model, which writes the caption."""
    painter: DiffusionSettings
    """The diffusion model, which draws it."""
    checker: VisionLanguageModelSettings
    """The vision-language model, which says whether the picture shows what the caption says."""


class CrewWriterSettings(SmallLlamaSettings):
    """How the writer is pretrained, and its deliberate flaw."""

    captions: Count = 8000
    """Number of training captions."""
    exact: Share = 0.5
    """The share of training captions in the dialect that names what was asked for."""


class CrewPainterSettings(ModelOfPictures):
    """How the painter is pretrained, and its deliberate flaw."""

    misread: Share = 0.7
    """The share of training pictures of three of the six exact words that show the opposite. Above one half the
    painter is wrong there even about what it holds likeliest, and no caption helps."""


class CheckerSettings(SmallLlamaSettings):
    """How the checker is pretrained, and its deliberate flaw."""

    examples: Count = 12000
    """Number of rendered training pictures with a caption and a verdict."""
    seeing_steps: Count = 600
    """Updates in which its eye alone learns to tell levels, before it reads."""
    vision_width: Annotated[int, Field(ge=16, le=10**6, multiple_of=16)] = 64
    """Hidden size of its eye."""
    vision_layers: Count = 2
    """Number of layers of its eye."""
    patch: Count = 8
    """Pixels on a side of what its eye takes for one token."""
    misread: Share = 0.7
    """The share of training verdicts on three of the six exact words that take them for the opposite. Above one half
    the checker is wrong there even about what it holds likeliest."""


class CrewFoundation(Settings):
    """How the workflow pretrains the models, and their deliberate flaws."""

    writer: CrewWriterSettings = CrewWriterSettings()
    """How the writer is pretrained, and its deliberate flaw."""
    painter: CrewPainterSettings = CrewPainterSettings()
    """How the painter is pretrained, and its deliberate flaw."""
    checker: CheckerSettings = CheckerSettings()
    """How the checker is pretrained, and its deliberate flaw."""
    regressor: RegressorSettings = RegressorSettings()
    """How the regressor that judges pictures is fitted."""


class Crew(SystemSettings, extra="forbid"):
    """A language model writes a caption, a diffusion model draws it, a vision-language model checks the picture."""

    benchmark: ClassVar[str] = "sysdpo.applications.crew.crew:CrewBenchmark"
    components: CrewComponents  # type: ignore[assignment]
    """The models of the system."""
    unseen: ProperShare = 0.3
    """The share of scenes (an attribute, a fur and a scarf) that only validation and test prompts ask for."""
    prompts: SplitSizes = SplitSizes()
    """How many prompts each split has, and how they are drawn."""
    foundation: CrewFoundation = CrewFoundation()
    """How the workflow pretrains the models, and their deliberate flaws."""
