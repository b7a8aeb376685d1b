"""Application 2 of the paper: two language models answer a question together.

The first writes a draft, the second reads question and draft and gives the final answer, which alone is judged. The
questions and their right answers come from a *world*, which the configuration names.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd

from sysdpo.applications.answers.settings import TwoStageQA, WorldSettings
from sysdpo.base.errors import UserError
from sysdpo.base.files import require_columns
from sysdpo.base.functions import load_function
from sysdpo.base.settings import without
from sysdpo.components.settings import LanguageModelSettings
from sysdpo.method.benchmark import Judge
from sysdpo.method.component import Component
from sysdpo.method.description import Description, Metric, Texts
from sysdpo.method.system import Node, System

WHERE = "systems.two_stage_qa"
COMPONENTS = ("first", "second")
DESCRIPTION = Description(
    title="Two-stage question answering",
    story=(
        "A first language model drafts an answer to a question; a second one reads question and draft and gives "
        "the final answer. Neither is perfect: a draft may leave out what the answer hangs on, or say it in a way "
        "that the second model misreads. Only final answers are judged, right or wrong, and SysDPO-Sampling does "
        "not even see the drafts that led to them."
    ),
    components={"first": "the first model", "second": "the second model"},
    metrics={
        "accuracy": Metric("Accuracy", True, "%", 1, "share of right final answers, sampled"),
        "length": Metric("Length", False, "tokens", 1, "length of the final answer", is_goal=False),
    },
    headline=("accuracy", "accuracy_greedy"),
    table=(
        *("accuracy", "accuracy_greedy", "win_rate_vs_before", "win_rate_vs_separate"),
        *("length", "kl_first", "kl_second"),
    ),
    texts=Texts({"Draft": "draft", "Answer": "answer"}, expected="answer"),
)


class World(Protocol):
    """Questions with verifiable answers. The configuration names a function `(questions, foundation) -> World`.

    `questions` is the section of that name without `source`, `foundation` the section of that name.
    """

    foundations: Mapping[str, Callable[[int, Path], None]]
    """Functions that make each foundation model, from a seed and into a folder."""

    public_models: Mapping[str, str]
    """Hub ids of the foundation models that are copies of public ones."""

    default_components: Mapping[str, tuple[str, str]]
    """The foundation model of each component whose `model` is null, and that model's prompt template."""

    def prompts(self, train: int, validation: int, test: int, seed: int) -> pd.DataFrame:
        """Columns `prompt_id, split, text, answer, …`, with the expected `answer`; the splits have the given sizes."""
        ...

    def is_right(self, answer: str, expected: str) -> bool:
        """Whether an answer is right; deterministic."""
        ...

    def inspect(self, system: System, seed: int) -> dict[str, Any]:
        """Measures the quality of the system before alignment."""
        ...


class TwoStageQABenchmark:
    """Question -> first -> draft; question and draft -> second -> answer."""

    inputs = ("text",)
    description = DESCRIPTION
    nodes = (Node("draft", "first", ("text",)), Node("answer", "second", ("text", "draft")))

    def __init__(self, settings: TwoStageQA, where: str):
        self.settings, self.where = settings, where
        self.components = settings.components.fields
        self.world = load_world(settings.questions, settings.foundation, where)
        self.foundations = self.world.foundations

    def prompts(self) -> pd.DataFrame:
        """The world's questions: columns `prompt_id, split, text, answer, …`."""
        return self.world.prompts(**self.settings.prompts.fields)

    def system(self, foundation: Path) -> System:
        """The system, with each component loaded from its configured model or from `foundation`."""
        # The model libraries take seconds to import, so only the steps that need a model do.
        from sysdpo.components.language import LanguageModel

        components: dict[str, Component] = {}
        for name, settings in self.components.items():
            arguments = settings.arguments
            model = arguments.pop("model") or foundation / self.world.default_components[name][0]
            template = arguments.pop("template") or self._template(name)
            components[name] = LanguageModel.from_pretrained(model, template=template, **arguments)
        return System(self.inputs, self.nodes, components)

    def _template(self, name: str) -> str:
        model = self.components[name].model
        if model is None:
            return self.world.default_components[name][1]
        raise UserError(
            f"{self.where}.components.{name}.template: it should be given for the model '{model}', with {{0}} for the "
            "question and, for the second, {1} for the draft"
        )

    def loaded(self) -> Mapping[str, LanguageModelSettings]:
        """The components with the world's templates and, for copies of public models, their hub ids."""
        public = self.world.public_models
        return {
            name: settings.changed(
                model=settings.model or public.get(self.world.default_components[name][0]),
                template=settings.template or self._template(name),
            )
            for name, settings in self.components.items()
        }

    def judges(self) -> Mapping[str, Judge]:
        """None: the world says which answers are right."""
        return {}

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """1.0 if the final answer is right, else 0.0."""
        require_columns(prompts, ("prompt_id", "answer"), "the table of prompts")
        require_columns(trajectories, ("answer",), "the table of trajectories")
        expected = trajectories["prompt_id"].map(prompts.set_index("prompt_id")["answer"])
        right = [
            float(self.world.is_right(str(answer), right_answer))
            for answer, right_answer in zip(trajectories["answer"], expected, strict=True)
        ]
        return trajectories[["trajectory_id", "prompt_id"]].assign(score=right)

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """`accuracy`: 1.0 if the final answer is right; `length`: its tokens, the end token included."""
        length = [float(len(answer.tokens)) for answer in trajectories["answer"]]
        return pd.DataFrame({"accuracy": scores["score"].to_numpy(), "length": length})

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """The world's measurements of the system before alignment."""
        return self.world.inspect(self.system(foundation).to(), seed)


def load_world(questions: Mapping[str, Any], foundation: Mapping[str, Any], where: str) -> World:
    """Build the world that `questions['source']` names; raises `UserError` if it does not exist or a setting is wrong.

    where: the system's setting, for errors.
    """
    source: Any = load_function(questions["source"], f"{where}.questions.source")
    if isinstance(source, type) and issubclass(source, WorldSettings):
        foundation_settings = source.foundation.read(foundation, f"{where}.foundation")
        make = load_function(source.world, f"{source.__name__}.world")
        return cast(World, make(source.read(questions, f"{where}.questions"), foundation_settings))
    return cast(World, source(without(questions, ["source"]), foundation))
