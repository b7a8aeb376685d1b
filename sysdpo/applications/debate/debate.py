"""A debate: two language models that each know half of a case tell each other, reply in rounds, and vote.

Each debater owns a node in every round, so its weights are shared over the rounds. People judge the verdict alone.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.applications.debate.language import (
    CLOSING,
    OPENING,
    REPLY,
    Question,
    cases,
    opening,
    questions,
    reply,
    tells_sign,
    total_of,
    vote,
)
from sysdpo.applications.debate.settings import Debate
from sysdpo.applications.questions import draw_prompts, split
from sysdpo.base.seeds import numpy_generator
from sysdpo.components.settings import LanguageModelSettings
from sysdpo.method.benchmark import Judge
from sysdpo.method.component import Component
from sysdpo.method.description import Description, Metric, Texts
from sysdpo.method.system import Node, System

SIDES = ("left", "right")


def nodes_of(rounds: int) -> tuple[Node, ...]:
    """The graph: in every round a node of each debater, and the vote at the end."""
    nodes = [Node(f"{side}_1", side, (side,), _named(OPENING, side)) for side in SIDES]
    for side, other in (SIDES, SIDES[::-1]):
        nodes.append(Node(f"{side}_2", side, (side, f"{other}_1"), _named(REPLY, side, f"{other}_1")))
    for number in range(3, rounds + 1):
        for side, other in (SIDES, SIDES[::-1]):
            said = (f"{side}_{number - 1}", f"{other}_{number - 1}")
            nodes.append(Node(f"{side}_{number}", side, said, _named(CLOSING, *said)))
    return (*nodes, Node("verdict", "vote", tuple(f"{side}_{rounds}" for side in SIDES)))


def _named(template: str, *parents: str) -> str:
    return template.format(*(f"{{{parent}}}" for parent in parents))


def described(rounds: int) -> Description:
    """What the report says of a debate of so many rounds."""
    titles = {
        f"{side.capitalize()}, round {number}": f"{side}_{number}" for number in range(1, rounds + 1) for side in SIDES
    }
    return Description(
        title="Debate",
        story=(
            "Two language models each know one half of a case that neither can decide alone. Each tells the other what "
            "it knows, replies to what it was told, reads the other's reply and closes; where both end with the same "
            "total, that is the verdict. Each may tell its half in a way that leaves it open, and each mostly misreads "
            "one word of the way that does not. Only verdicts are judged."
        ),
        components={side: f"the {side} debater" for side in SIDES},
        metrics={
            "accuracy": Metric("Accuracy", True, "%", 1, "share of right verdicts, sampled"),
            "agreement": Metric("Agreement", True, "%", 1, "share of debates that end with a verdict", is_goal=False),
            **{
                f"{side}_right": Metric(
                    f"{side.capitalize()} right", True, "%", 1, f"share of right ends of the {side} debater"
                )
                for side in SIDES
            },
        },
        headline=("accuracy", "accuracy_greedy"),
        table=(
            *("accuracy", "accuracy_greedy", "agreement", "left_right", "right_right"),
            *("win_rate_vs_before", "win_rate_vs_separate", "kl_left", "kl_right"),
        ),
        texts=Texts(titles | {"Verdict": "verdict"}, expected="answer"),
    )


class DebateBenchmark:
    """What each knows -> openings -> replies -> closings -> vote -> verdict."""

    inputs = SIDES

    def __init__(self, settings: Debate, where: str):
        self.settings, self.where = settings, where
        self.nodes, self.description = nodes_of(settings.rounds), described(settings.rounds)
        self.outputs = tuple(f"{side}_{settings.rounds}" for side in SIDES)
        self.components = settings.components.fields
        self.cases = split(cases(), settings.unseen)
        self.foundations: dict[str, Callable[[int, Path], None]] = {side: partial(self._make, side) for side in SIDES}

    def _make(self, side: str, seed: int, folder: Path) -> None:
        # The model libraries take seconds to import, so only the steps that make a model do.
        from sysdpo.applications.debate.debaters import make_debater

        make_debater(self.settings.foundation.fields[side], side, questions(self.cases[0]), seed, folder)

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, content, left, right, text, answer`; a content is a case, which one split has."""

        def row(question: Question) -> dict[str, Any]:
            told = {"content": question.case.text, "left": question.left, "right": question.right}
            return told | {"text": f"{question.left} / {question.right}", "answer": str(question.case.result)}

        return draw_prompts(*self.cases, questions, row, **self.settings.prompts.fields)

    def system(self, foundation: Path) -> System:
        """The directed acyclic graph, with each debater loaded from its configured model or from `foundation`."""
        from sysdpo.components.language import LanguageModel
        from sysdpo.method.function import Function

        components: dict[str, Component] = {"vote": Function(vote)}
        for side, settings in self.components.items():
            arguments = settings.arguments
            model = arguments.pop("model") or foundation / side
            components[side] = LanguageModel.from_pretrained(model, **arguments)
        return System(self.inputs, self.nodes, components, self.outputs)

    def loaded(self) -> Mapping[str, LanguageModelSettings]:
        """The components as they are: each node has a template of its own."""
        return self.components

    def judges(self) -> Mapping[str, Judge]:
        """None: the case says which verdicts are right."""
        return {}

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """1.0 where the verdict is right, else 0.0."""
        right = [
            float(str(verdict) == answer)
            for verdict, answer in zip(trajectories["verdict"], _answers(prompts, trajectories), strict=True)
        ]
        return trajectories[["trajectory_id", "prompt_id"]].assign(score=right)

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """`accuracy`; `agreement`: both ends are the same; `left_right`, `right_right`: that debater's end is right."""
        answers = _answers(prompts, trajectories)
        ends = {
            side: [total_of(str(said)) for said in trajectories[output]]
            for side, output in zip(SIDES, self.outputs, strict=True)
        }
        found = {"accuracy": scores["score"].to_numpy()}
        found["agreement"] = np.array([float(left == right) for left, right in zip(*ends.values(), strict=True)])
        for side, totals in ends.items():
            found[f"{side}_right"] = np.array(
                [float(total == answer) for total, answer in zip(totals, answers, strict=True)]
            )
        return pd.DataFrame(found)

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """Each debater's openings, and how often its replies to either dialect are right; on 400 unseen cases."""
        system = self.system(foundation).to()
        told = questions(self.cases[1])
        sample = [told[index] for index in numpy_generator("inspection", seed).choice(len(told), 400, replace=False)]
        seeds, quality = range(len(sample)), {}
        for side, other in (SIDES, SIDES[::-1]):
            model = system.components[side]
            openings = [
                str(value)
                for value in model.sample(
                    [(OPENING.format(getattr(question, side)),) for question in sample], seeds=seeds
                )
            ]
            allowed = [{opening(question.case, side, tells=tells) for tells in (True, False)} for question in sample]
            quality[f"{side}_opening_true"] = float(
                np.mean([said in both for said, both in zip(openings, allowed, strict=True)])
            )
            quality[f"{side}_tells"] = float(np.mean([tells_sign(said) for said in openings]))
            for tells, name in ((True, "told"), (False, "open")):
                prompts = [
                    REPLY.format(getattr(question, side), opening(question.case, other, tells=tells))
                    for question in sample
                ]
                replies = [str(value) for value in model.sample([(prompt,) for prompt in prompts], seeds=seeds)]
                right = [
                    total_of(said) == str(question.case.result) for said, question in zip(replies, sample, strict=True)
                ]
                either = [
                    said in {reply(question.case, side, sign) for sign in (1, -1)}
                    for said, question in zip(replies, sample, strict=True)
                ]
                quality[f"{side}_right_{name}"], quality[f"{side}_arithmetic_{name}"] = (
                    float(np.mean(right)),
                    float(np.mean(either)),
                )
        return quality


def _answers(prompts: pd.DataFrame, trajectories: pd.DataFrame) -> list[str]:
    return trajectories["prompt_id"].map(prompts.set_index("prompt_id")["answer"]).tolist()
