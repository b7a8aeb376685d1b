"""What a configuration says of a debate.

No model library is imported here: Snakemake checks the configuration in an environment that has none.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from sysdpo.applications.settings import SmallLlamaSettings, SplitSizes
from sysdpo.base.settings import Count, ProperShare, Settings, Share
from sysdpo.components.settings import LanguageModelSettings
from sysdpo.method.config import SystemSettings


class DebaterSettings(SmallLlamaSettings):
    """How a debater is pretrained, and its deliberate flaws."""

    examples: Count = 24000
    """Number of training examples: a third each of openings, replies and closings."""
    tells: Share = 0.5
    """The share of training openings in the dialect that tells the sign of the change."""
    misread: Share = 0.7
    """The share of training replies to such openings that take "down" for "up". Above one half the debater is wrong
    there even about what it holds likeliest, and no opening helps."""
    trust: Share = 0.5
    """The share of training closings that keep one's own total where the two replies differ."""


class Debaters(Settings):
    """How the debaters are pretrained, and their deliberate flaws."""

    left: DebaterSettings = DebaterSettings()
    """The debater that knows the start and the first change."""
    right: DebaterSettings = DebaterSettings()
    """The debater that knows the second change."""


class DebateComponents(Settings):
    """The models of the system."""

    left: LanguageModelSettings
    """The debater that knows the start and the first change."""
    right: LanguageModelSettings
    """The debater that knows the second change."""


class Debate(SystemSettings, extra="forbid"):
    """Two language models that each know half of a case tell each other, reply, and vote."""

    benchmark: ClassVar[str] = "sysdpo.applications.debate.debate:DebateBenchmark"
    components: DebateComponents  # type: ignore[assignment]
    """The models of the system."""
    rounds: Annotated[int, Field(ge=2, le=10)] = 3
    """How often each debater speaks: an opening, a reply, and closings that each read the two latest replies."""
    unseen: ProperShare = 0.3
    """The share of the cases that only validation and test prompts ask about."""
    prompts: SplitSizes = SplitSizes()
    """How many prompts each split has, and how they are drawn."""
    foundation: Debaters = Debaters()
    """How the debaters are pretrained, and their deliberate flaws."""
