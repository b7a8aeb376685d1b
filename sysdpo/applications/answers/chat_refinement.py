"""Application 2 of the paper with pretrained models: one chat model drafts an answer, a second one refines it.

The graph is that of `two_stage_qa`, with the dataset's system prompt as a second input. Questions and preferences
come from a dataset in the layout of Intel/orca_dpo_pairs, and a reward model judges the final answers. The choice of
data, models and prompts is ours.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.applications.answers.orca_pairs import read_orca_pairs
from sysdpo.applications.answers.settings import ChatRefinement, RewardModelSettings
from sysdpo.base.errors import UserError
from sysdpo.base.files import require_columns
from sysdpo.base.seeds import numpy_generator
from sysdpo.base.settings import without
from sysdpo.components.settings import LanguageModelSettings
from sysdpo.method.benchmark import Judge
from sysdpo.method.component import Component
from sysdpo.method.description import Description, Metric, Texts
from sysdpo.method.preferences import as_frame, make_pairs
from sysdpo.method.system import Node, System
from sysdpo.method.values import Completion

WHERE = "systems.chat_refinement"
UNUSED_SECTIONS = ("foundation", "questions")

REFINER_TEMPLATE = """\
{0}

Somebody has drafted this answer to the above:
<draft>
{1}
</draft>

Write the final answer. Keep what is right in the draft, correct what is wrong, add what is missing, and follow every \
instruction above. Give the answer alone: do not mention the draft."""

PROMPTS = {"drafter": ("{0}", "{1}"), "refiner": (REFINER_TEMPLATE, "{2}")}
"""Each component's default template and system prompt."""

DESCRIPTION = Description(
    title="Chat refinement",
    story=(
        "A pretrained chat model (the drafter) drafts an answer to a question; a second one (the refiner) reads "
        "question and draft and gives the final answer. A reward model judges final answers alone, and nobody says "
        "which of the two models is to blame for a poor one. SysDPO-Sampling learns from answers that the data set "
        "comes with, to which no draft belongs."
    ),
    components={"drafter": "the drafter", "refiner": "the refiner"},
    metrics={
        "reward": Metric("Reward", True, "", 3, "reward of the final answer, by the model that preferences come from"),
        "judge_score": Metric(
            "Judge", True, "", 3, "reward of the final answer, by a second model that trained nothing"
        ),
        "draft_reward": Metric("Draft reward", True, "", 3, "reward of the draft, were it the answer"),
        "length": Metric("Length", False, "tokens", 1, "length of the final answer", is_goal=False),
        "draft_length": Metric("Draft length", False, "tokens", 1, "length of the draft", is_goal=False),
    },
    headline=("reward", "judge_score"),
    table=(
        *("reward", "judge_score", "win_rate_vs_before", "win_rate_vs_separate"),
        *("draft_reward", "length", "draft_length", "kl_drafter", "kl_refiner"),
    ),
    texts=Texts({"Draft": "draft", "Answer": "answer"}, metric="reward"),
)


class ChatRefinementBenchmark:
    """Question -> drafter -> draft; question and draft -> refiner -> answer."""

    inputs = ("text", "system")
    nodes = (Node("draft", "drafter", ("text", "system")), Node("answer", "refiner", ("text", "draft", "system")))

    def __init__(self, settings: ChatRefinement, where: str):
        self.settings, self.where = settings, where
        self.data, self.scorer, self.judge = settings.data, settings.scorer, settings.judge
        self.components = {name: _with_prompts(name, model) for name, model in settings.components.fields.items()}
        self.foundations: dict[str, Callable[[int, Path], None]] = {}
        self.description = DESCRIPTION if self.judge is not None else _without("judge_score", DESCRIPTION)

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, text, system, chosen, rejected`; ids contain the row in the dataset.

        The test split does not depend on the other splits' sizes, nor the validation split on that of `train`.
        """
        most, settings = self.data.max_prompt_characters, self.settings.prompts
        pairs = read_orca_pairs(self.data.source, self.data.revision, where=f"{self.where}.data")
        pairs = pairs[pairs["system"].str.len() + pairs["question"].str.len() <= most]
        sizes = {"test": settings.test, "validation": settings.validation, "train": settings.train}
        if sum(sizes.values()) > len(pairs):
            raise UserError(
                f"{self.where}.prompts: train, validation and test should be {len(pairs)} together at most, the "
                f"questions that have no more than {most} characters with their system prompts "
                f"({self.where}.data.max_prompt_characters); here they are {settings.train}, {settings.validation} and "
                f"{settings.test}"
            )
        order = numpy_generator("prompts", settings.seed).permutation(len(pairs))[: sum(sizes.values())]
        drawn = pairs.iloc[order].rename(columns={"question": "text"})
        drawn.insert(0, "split", [name for name, size in sizes.items() for _ in range(size)])
        drawn.insert(0, "prompt_id", [f"row{row:05d}" for row in drawn.index])
        return drawn[["prompt_id", "split", *self.inputs, "chosen", "rejected"]].reset_index(drop=True)

    def preferences(self, prompts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The dataset's two answers to each prompt as trajectories without a draft, and the pair that they are.

        They are tokenized for the refiner, end with its chat template's end-of-turn token, and are cut after
        `max_new_tokens`. Prompts whose two answers are then equal are left out.
        """
        # The model libraries take seconds to import, so only the steps that need a model do.
        from sysdpo.components.loading import load_tokenizer
        from sysdpo.components.prompting import end_token

        require_columns(prompts, (*self.inputs, "chosen", "rejected"), "the table of prompts")
        refiner = self.components["refiner"]
        tokenizer, most = load_tokenizer(str(refiner.model), revision=refiner.revision), refiner.max_new_tokens
        end = end_token(tokenizer, refiner.chat_template_kwargs)
        if end is None:
            raise UserError(
                f"{self.where}.components.refiner.model: '{refiner.model}' should have a tokenizer with an end token, "
                "which the data set's answers end with"
            )
        rows = []
        for prompt in prompts.to_dict("records"):
            answers = [_completion(prompt[name], tokenizer, most, end) for name in ("chosen", "rejected")]
            if answers[0].tokens != answers[1].tokens:
                rows += [(prompt, sample, answer) for sample, answer in enumerate(answers)]
        if not rows:
            raise UserError(
                f"{self.where}.components.refiner.max_new_tokens: {refiner.max_new_tokens} should reach to where some "
                "prompt's chosen and rejected answers differ"
            )
        variables: dict[str, list[Any]] = {name: [prompt[name] for prompt, *_ in rows] for name in self.inputs}
        variables["answer"] = [answer for *_, answer in rows]
        frame = as_frame([prompt["prompt_id"] for prompt, *_ in rows], [sample for _, sample, _ in rows], variables)
        return frame, make_pairs(frame[["trajectory_id", "prompt_id"]].assign(score=1.0 - frame["sample"]))

    def system(self, foundation: Path) -> System:
        """The system with each model as configured; `foundation` is unused."""
        from sysdpo.components.language import LanguageModel

        components: dict[str, Component] = {}
        for name, component in self.components.items():
            settings = component.arguments
            components[name] = LanguageModel.from_pretrained(settings.pop("model"), **settings)
        return System(self.inputs, self.nodes, components)

    def loaded(self) -> Mapping[str, LanguageModelSettings]:
        """The components as they are."""
        return self.components

    def judges(self) -> Mapping[str, Judge]:
        """The scorer and, if configured, the judge."""
        return {
            section: Judge(settings.model, settings.batch_size, settings.dtype, settings.max_length)
            for section, settings in (("scorer", self.scorer), ("judge", self.judge))
            if settings is not None
        }

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """The reward of the final answer, whatever the draft."""
        score = _rewards(self.scorer, prompts, trajectories, "answer")["answer"]
        return trajectories[["trajectory_id", "prompt_id"]].assign(score=score)

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """See `DESCRIPTION`; lengths are in the models' own tokens."""
        measured: dict[str, Any] = {
            "reward": scores["score"].to_numpy(),
            "draft_reward": _rewards(self.scorer, prompts, trajectories, "draft")["draft"],
            "length": [float(len(answer.tokens)) for answer in trajectories["answer"]],
            "draft_length": [float(len(draft.tokens)) for draft in trajectories["draft"]],
        }
        if self.judge is not None:
            measured["judge_score"] = _rewards(self.judge, prompts, trajectories, "answer")["answer"]
        return pd.DataFrame(measured)

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """The mean rewards of answers and drafts on the validation prompts before alignment."""
        prompts = self.prompts().query("split == 'validation'")
        seeds = range(seed, seed + len(prompts))
        inputs = {name: prompts[name].tolist() for name in self.inputs}
        sampled = self.system(foundation).to().sample(inputs, seeds=seeds)
        trajectories = as_frame(prompts["prompt_id"].tolist(), [0] * len(prompts), sampled)
        rewards = _rewards(self.scorer, prompts, trajectories, "answer", "draft")
        return {name: float(reward.mean()) for name, reward in rewards.items()}


def _without(metric: str, full: Description) -> Description:
    headline, table = (tuple(name for name in names if name != metric) for names in (full.headline, full.table))
    return replace(full, metrics=without(full.metrics, [metric]), headline=headline, table=table)


def _with_prompts(name: str, settings: LanguageModelSettings) -> LanguageModelSettings:
    """A component's settings, with this system's prompts as defaults."""
    template, system_prompt = PROMPTS[name]
    if settings.system_prompt is not None:
        system_prompt = settings.system_prompt
    return settings.changed(template=settings.template or template, system_prompt=system_prompt)


def _completion(text: str, tokenizer: Any, most: int, end: int) -> Completion:
    """The text as the model would generate it: its tokens and the end token, at most `most` in all."""
    tokens = [*tokenizer(text.strip(), add_special_tokens=False)["input_ids"], end][:most]
    return Completion(str(tokenizer.decode(tokens, skip_special_tokens=True)).strip(), tuple(tokens))


def _rewards(
    settings: RewardModelSettings, prompts: pd.DataFrame, trajectories: pd.DataFrame, *names: str
) -> dict[str, np.ndarray]:
    """The reward of each of these variables as the answer to its prompt: `[n]`, in the order of `trajectories`."""
    from sysdpo.applications.answers.reward_model import RewardModel

    require_columns(prompts, ChatRefinementBenchmark.inputs, "the table of prompts")
    require_columns(trajectories, names, "the table of trajectories")
    aligned = trajectories[["prompt_id"]].merge(prompts, on="prompt_id", how="left")
    systems, questions = aligned["system"].tolist(), aligned["text"].tolist()
    with closing(RewardModel(**settings.fields)) as judge:
        return {name: judge.score(systems, questions, [str(text) for text in trajectories[name]]) for name in names}
