"""Questions about cities in two hops: which country a city is in, and which language that country speaks.

"Which language do people speak in Lyon?" A good draft names the country ("Lyon is in France."), the answer is one word
("French"). Nothing is taught: a pretrained language model knows part of it. The world is our choice.
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
"""Questions about countries that none of the others is about; each with its city, country and answer."""

END = "<|im_end|>\n"
"""Where to stop: the model's own end token closes each example."""

FIRST_TEMPLATE = (
    "".join(f"Question: {asked}\nHint: {city} is in {country}.{END}" for asked, city, country, _ in EXAMPLES)
    + "Question: {0}\nHint:"
)
SECOND_TEMPLATE = (
    "".join(
        f"Question: {asked}\nHint: {city} is in {country}.\nAnswer: {answer}{END}"
        for asked, city, country, answer in EXAMPLES
    )
    + "Question: {0}\nHint: {1}\nAnswer:"
)


@dataclass(frozen=True)
class Question:
    """What is asked of which city."""

    city: str
    text: str

    @property
    def country(self) -> str:
        """Where the city is."""
        return COUNTRY_OF[self.city]

    @property
    def answer(self) -> str:
        """The one word that is right."""
        language, _ = COUNTRIES[self.country]
        return language


def questions(of: Iterable[str]) -> list[Question]:
    """Every question about these cities, city by city."""
    return [Question(city, wording.format(city)) for city in of for wording in WORDINGS]


def is_right(answer: str, expected: str) -> bool:
    """Whether an answer is the expected word and nothing else but punctuation; capital letters do not matter."""
    return re.findall(r"\w+", answer.lower()) == [expected.lower()]


class CitiesWorld:
    """The world of the cities, as a two-stage system asks for one."""

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
        # Nothing is drawn: the model is the same for every seed.
        from sysdpo.applications.answers.smollm2 import make_smollm2

        make_smollm2(settings, folder)

    def prompts(self, train: int, validation: int, test: int, seed: int) -> pd.DataFrame:
        """Columns `prompt_id, split, content, text, answer, country`; a `content` is a city, of one split alone."""

        def row(asked: Question) -> dict[str, Any]:
            return {"content": asked.city} | {name: getattr(asked, name) for name in ("text", "answer", "country")}

        known, unseen = self.cities
        return draw_prompts(known, unseen, questions, row, train=train, validation=validation, test=test, seed=seed)

    def is_right(self, answer: str, expected: str) -> bool:
        """See the module's function."""
        return is_right(answer, expected)

    def inspect(self, system: System, seed: int) -> dict[str, Any]:
        """How far each model is from its part, on 60 questions about unseen cities.

        `draft_names_country`: drafts that name the right country. `right_given_draft`, `_given_country`,
        `_given_wrong_country`: right answers of the second model to those drafts, to a good one, and to one that names
        another country: the last is far below the others where the second model relies on its draft.
        """
        rng = numpy_generator("inspection", seed)
        asked = [self.unseen[index] for index in rng.choice(len(self.unseen), 60, replace=False)]
        texts = [question.text for question in asked]
        seeds = range(1000, 1000 + len(asked))
        drafts = [str(each) for each in system.components["first"].sample([(text,) for text in texts], seeds=seeds)]
        others = list(COUNTRIES)
        wrong = [others[(others.index(question.country) + 5) % len(others)] for question in asked]
        given = {
            "draft": drafts,
            "country": [f"{question.city} is in {question.country}." for question in asked],
            "wrong_country": [f"{question.city} is in {name}." for question, name in zip(asked, wrong, strict=True)],
        }
        named = [question.country in text for question, text in zip(asked, drafts, strict=True)]
        quality = {"draft_names_country": float(np.mean(named))}
        for name, hints in given.items():
            answers = system.components["second"].sample(list(zip(texts, hints, strict=True)), seeds=range(len(asked)))
            right = [is_right(str(each), question.answer) for each, question in zip(answers, asked, strict=True)]
            quality[f"right_given_{name}"] = float(np.mean(right))
        return quality
