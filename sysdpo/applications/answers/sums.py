"""The world of the sums: its prompts, its models, and who is right. Its language is in `sums_language`."""

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.applications.answers.settings import FirstSettings, SecondSettings, Sums, SumsFoundation
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
    """The world of the sums, as a two-stage system asks for one."""

    def __init__(self, settings: Sums, foundation: SumsFoundation):
        self.settings = settings
        self.default_components = {"first": ("first", FIRST_TEMPLATE), "second": ("second", SECOND_TEMPLATE)}
        self.public_models: dict[str, str] = {}
        first, second = foundation.first, foundation.second
        self.foundations = {"first": partial(self._make_first, first), "second": partial(self._make_second, second)}

    @cached_property
    def known(self) -> list[Question]:
        """What pretraining and the training prompts are drawn from."""
        return questions(split(sums(), self.settings.unseen)[0])

    @cached_property
    def unseen(self) -> list[Question]:
        """What the validation and test prompts are drawn from, which share no sum."""
        return questions(split(sums(), self.settings.unseen)[1])

    # The model libraries take seconds to import, so only the steps that make a model do.

    def _make_first(self, settings: FirstSettings, seed: int, folder: Path) -> None:
        from sysdpo.applications.answers.solvers import make_first

        make_first(settings, self.known, seed, folder)

    def _make_second(self, settings: SecondSettings, seed: int, folder: Path) -> None:
        from sysdpo.applications.answers.solvers import make_second

        make_second(settings, self.known, seed, folder)

    def prompts(self, train: int, validation: int, test: int, seed: int) -> pd.DataFrame:
        """Columns `prompt_id, split, content, text, answer, verbs`; a `content` is a sum, which one split alone has."""

        def row(asked: Question) -> dict[str, Any]:
            shown = {"content": asked.sum.text, "text": asked.text, "answer": str(asked.sum.result)}
            return shown | {"verbs": " ".join(asked.verbs)}

        known, unseen = split(sums(), self.settings.unseen)
        return draw_prompts(known, unseen, questions, row, train=train, validation=validation, test=test, seed=seed)

    def is_right(self, answer: str, expected: str) -> bool:
        """See the module's function."""
        return is_right(answer, expected)

    def inspect(self, system: System, seed: int) -> dict[str, Any]:
        """The drafts' dialects, and how the second model reads whole drafts, on 400 questions of unseen sums.

        `right_given_*`: its share of right answers; in dialect A half of them are, by chance, the best there is.
        `arithmetic`: its share of answers that are a right computation by one reading of the second sign.
        """
        rng = numpy_generator("inspection", seed)
        asked = [self.unseen[index] for index in rng.choice(len(self.unseen), 400, replace=False)]
        texts = [question.text for question in asked]
        drafts = system.components["first"].sample([(text,) for text in texts], seeds=range(len(texts)))
        dialects = [dialect_of(str(each)) for each in drafts]
        faithful = [
            str(each) == draft(question.sum, dialect)
            for each, question, dialect in zip(drafts, asked, dialects, strict=True)
            if dialect
        ]
        quality: dict[str, Any] = {
            "draft_whole": float(np.mean([dialect is not None for dialect in dialects])),
            "draft_whole_faithful": float(np.mean(faithful)) if faithful else 0.0,
            "draft_dialect_b": dialects.count("B") / max(1, len(faithful)),
        }
        for dialect in SIGNS:
            steps = [draft(question.sum, dialect) for question in asked]
            given = system.components["second"].sample(list(zip(texts, steps, strict=True)), seeds=range(len(texts)))
            right = [is_right(str(each), str(question.sum.result)) for each, question in zip(given, asked, strict=True)]
            either = [{answer(totals) for totals in readings(draft(question.sum, "A"))} for question in asked]
            computed = [str(each) in allowed for each, allowed in zip(given, either, strict=True)]
            quality[f"right_given_{dialect.lower()}"] = float(np.mean(right))
            quality[f"arithmetic_given_{dialect.lower()}"] = float(np.mean(computed))
        return quality
