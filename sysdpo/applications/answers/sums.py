"""The `World` of the sums: prompts, models and right answers. Its language is in `sums_language`."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.applications.answers.settings import SolverSettings, Sums, SumsFoundation
from sysdpo.applications.answers.sums_language import (
    FIRST_TEMPLATE,
    SECOND_TEMPLATE,
    SIGNS,
    Question,
    answer,
    dialect_of,
    draft,
    is_right,
    questions,
    readings,
    sums,
)
from sysdpo.applications.questions import draw_prompts, split
from sysdpo.base.seeds import numpy_generator
from sysdpo.method.system import System


class SumsWorld:
    """The `World` of the sums, for `two_stage_qa`."""

    def __init__(self, settings: Sums, foundation: SumsFoundation):
        self.settings = settings
        self.default_components = {"first": ("first", FIRST_TEMPLATE), "second": ("second", SECOND_TEMPLATE)}
        self.public_models: dict[str, str] = {}
        self.foundations = {name: partial(self._make, name, model) for name, model in foundation.fields.items()}

    @cached_property
    def known(self) -> list[Question]:
        """The questions of pretraining and of the training prompts."""
        return questions(split(sums(), self.settings.unseen)[0])

    @cached_property
    def unseen(self) -> list[Question]:
        """The questions of the validation and test prompts, with other sums than `known`."""
        return questions(split(sums(), self.settings.unseen)[1])

    def _make(self, name: str, settings: SolverSettings, seed: int, folder: Path) -> None:
        # The model libraries take seconds to import, so only the steps that make a model do.
        from sysdpo.applications.answers import solvers

        getattr(solvers, f"make_{name}")(settings, self.known, seed, folder)

    def prompts(self, train: int, validation: int, test: int, seed: int) -> pd.DataFrame:
        """Columns `prompt_id, split, content, text, answer, verbs`; a `content` is a sum, in one split only."""

        def row(question: Question) -> dict[str, Any]:
            columns = {"content": question.sum.text, "text": question.text, "answer": str(question.sum.result)}
            return columns | {"verbs": " ".join(question.verbs)}

        known, unseen = split(sums(), self.settings.unseen)
        return draw_prompts(known, unseen, questions, row, train=train, validation=validation, test=test, seed=seed)

    is_right = staticmethod(is_right)

    def inspect(self, system: System, seed: int) -> dict[str, Any]:
        """The drafts' dialects, and how the second model reads complete drafts, on 400 questions about unseen sums.

        `right_given_*`: its share of right answers; in dialect A the sign must be guessed, so at most half can be
        right. `arithmetic_given_*`: its share of answers that are correct for one of the two readings of that sign.
        """
        rng = numpy_generator("inspection", seed)
        sample = [self.unseen[index] for index in rng.choice(len(self.unseen), 400, replace=False)]
        texts = [question.text for question in sample]
        drafts = system.components["first"].sample([(text,) for text in texts], seeds=range(len(texts)))
        dialects = [dialect_of(str(text)) for text in drafts]
        faithful = [
            str(text) == draft(question.sum, dialect)
            for text, question, dialect in zip(drafts, sample, dialects, strict=True)
            if dialect
        ]
        quality: dict[str, Any] = {
            "draft_whole": float(np.mean([dialect is not None for dialect in dialects])),
            "draft_whole_faithful": float(np.mean(faithful)) if faithful else 0.0,
            "draft_dialect_b": dialects.count("B") / max(1, len(faithful)),
        }
        for dialect in SIGNS:
            steps = [draft(question.sum, dialect) for question in sample]
            pairs = list(zip(texts, steps, strict=True))
            answers = [str(text) for text in system.components["second"].sample(pairs, seeds=range(len(texts)))]
            right = [is_right(text, str(question.sum.result)) for text, question in zip(answers, sample, strict=True)]
            allowed = [{answer(totals) for totals in readings(draft(question.sum, "A"))} for question in sample]
            computed = [text in totals for text, totals in zip(answers, allowed, strict=True)]
            quality[f"right_given_{dialect.lower()}"] = float(np.mean(right))
            quality[f"arithmetic_given_{dialect.lower()}"] = float(np.mean(computed))
        return quality
