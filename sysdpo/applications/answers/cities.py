"""Questions about cities in two hops: which country a city is in, and which language that country speaks.

"Which language do people speak in Lyon?" A good draft names the country ("Lyon is in France."), the answer is one word
("French"). No model is taught this: a pretrained language model knows some of it. The world is our choice.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.applications.answers.settings import Cities, CitiesFoundation, SmolLM2Settings
from sysdpo.applications.questions import draw_prompts, split
from sysdpo.base.seeds import numpy_generator
from sysdpo.method.system import System

COUNTRIES = {
    "France": ("French", "Lyon Marseille Nice Bordeaux Toulouse"),
    "Germany": ("German", "Munich Hamburg Cologne Frankfurt Stuttgart"),
    "Italy": ("Italian", "Milan Naples Venice Florence Turin"),
    "Spain": ("Spanish", "Barcelona Seville Valencia Granada Malaga"),
    "Portugal": ("Portuguese", "Porto Braga Coimbra"),
    "Poland": ("Polish", "Krakow Gdansk Poznan Lodz"),
    "Greece": ("Greek", "Thessaloniki Patras Sparta Corinth"),
    "Sweden": ("Swedish", "Gothenburg Malmo Uppsala"),
    "the Netherlands": ("Dutch", "Rotterdam Utrecht Eindhoven"),
    "Norway": ("Norwegian", "Bergen Trondheim Stavanger"),
    "Denmark": ("Danish", "Aarhus Odense Aalborg"),
    "Finland": ("Finnish", "Turku Tampere"),
    "Hungary": ("Hungarian", "Debrecen Szeged"),
    "Turkey": ("Turkish", "Izmir Antalya Bursa"),
    "Russia": ("Russian", "Kazan Sochi Omsk Vladivostok"),
    "Egypt": ("Arabic", "Alexandria Luxor Aswan"),
    "Japan": ("Japanese", "Osaka Kyoto Nagoya Hiroshima Kobe Nagasaki"),
    "China": ("Chinese", "Shanghai Shenzhen Wuhan Nanjing Guangzhou"),
    "South Korea": ("Korean", "Busan Incheon Daegu"),
}
"""Each country's language and some of its cities, all single words."""

COUNTRY_OF = {city: country for country, (_, cities) in COUNTRIES.items() for city in cities.split()}

WORDINGS = (
    "What language is spoken in {0}?",
    "Which language do people speak in {0}?",
    "In {0}, what is the main language?",
    "What do people in {0} speak?",
    "What is the language of {0}?",
)

EXAMPLES = (
    ("What language is spoken in Mumbai?", "Mumbai", "India", "Hindi"),
    ("Which language do people speak in Phuket?", "Phuket", "Thailand", "Thai"),
    ("In Odessa, what is the main language?", "Odessa", "Ukraine", "Ukrainian"),
    ("What do people in Chicago speak?", "Chicago", "America", "English"),
)
"""Few-shot examples about countries that no question asks about: question, city, country, answer."""

END = "<|im_end|>\n"
"""The model's end token after each example, which shows it where to stop."""

FIRST_TEMPLATE = (
    "".join(f"Question: {question}\nHint: {city} is in {country}.{END}" for question, city, country, _ in EXAMPLES)
    + "Question: {0}\nHint:"
)
SECOND_TEMPLATE = (
    "".join(
        f"Question: {question}\nHint: {city} is in {country}.\nAnswer: {answer}{END}"
        for question, city, country, answer in EXAMPLES
    )
    + "Question: {0}\nHint: {1}\nAnswer:"
)


@dataclass(frozen=True)
class Question:
    """A question about a city's language."""

    city: str
    text: str

    @property
    def country(self) -> str:
        """The country the city is in."""
        return COUNTRY_OF[self.city]

    @property
    def answer(self) -> str:
        """The expected word."""
        language, _ = COUNTRIES[self.country]
        return language


def questions(of: Iterable[str]) -> list[Question]:
    """Every question about these cities, city by city."""
    return [Question(city, wording.format(city)) for city in of for wording in WORDINGS]


def is_right(answer: str, expected: str) -> bool:
    """Whether an answer is the expected word, apart from case and punctuation."""
    return re.findall(r"\w+", answer.lower()) == [expected.lower()]


class CitiesWorld:
    """The `World` of the cities, for `two_stage_qa`."""

    default_components: Mapping[str, tuple[str, str]] = {
        "first": ("smollm2", FIRST_TEMPLATE),
        "second": ("smollm2", SECOND_TEMPLATE),
    }

    public_models: Mapping[str, str] = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}

    def __init__(self, settings: Cities, foundation: CitiesFoundation):
        self.foundations = {"smollm2": partial(self._make_model, foundation.smollm2)}
        self.cities = split(list(COUNTRY_OF), settings.unseen)
        self.unseen = questions(self.cities[1])

    def _make_model(self, settings: SmolLM2Settings, seed: int, folder: Path) -> None:
        # The model is the same for every seed.
        from sysdpo.applications.answers.smollm2 import make_smollm2

        make_smollm2(settings, folder)

    def prompts(self, train: int, validation: int, test: int, seed: int) -> pd.DataFrame:
        """Columns `prompt_id, split, content, text, answer, country`; a `content` is a city, in one split only."""

        def row(question: Question) -> dict[str, Any]:
            columns = ("text", "answer", "country")
            return {"content": question.city} | {name: getattr(question, name) for name in columns}

        known, unseen = self.cities
        return draw_prompts(known, unseen, questions, row, train=train, validation=validation, test=test, seed=seed)

    is_right = staticmethod(is_right)

    def inspect(self, system: System, seed: int) -> dict[str, Any]:
        """How good each model is at its task, on 60 questions about unseen cities; all numbers are shares.

        `draft_names_country`: drafts that name the right country. `right_given_draft`, `_given_country` and
        `_given_wrong_country`: right answers of the second model given those drafts, a correct one, and one that names
        another country. The last is far below the others if the second model relies on its draft.
        """
        rng = numpy_generator("inspection", seed)
        sample = [self.unseen[index] for index in rng.choice(len(self.unseen), 60, replace=False)]
        texts = [question.text for question in sample]
        seeds = range(1000, 1000 + len(sample))
        drafts = [str(draft) for draft in system.components["first"].sample([(text,) for text in texts], seeds=seeds)]
        others = list(COUNTRIES)
        wrong = [others[(others.index(question.country) + 5) % len(others)] for question in sample]
        hints = {
            "draft": drafts,
            "country": [f"{question.city} is in {question.country}." for question in sample],
            "wrong_country": [f"{question.city} is in {name}." for question, name in zip(sample, wrong, strict=True)],
        }
        named = [question.country in text for question, text in zip(sample, drafts, strict=True)]
        quality = {"draft_names_country": float(np.mean(named))}
        for name, lines in hints.items():
            answers = system.components["second"].sample(list(zip(texts, lines, strict=True)), seeds=range(len(sample)))
            right = [is_right(str(answer), question.answer) for answer, question in zip(answers, sample, strict=True)]
            quality[f"right_given_{name}"] = float(np.mean(right))
        return quality
