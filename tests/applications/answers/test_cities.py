"""The world of the cities: its questions, their answers, and the judge."""

import pytest
from tried_benchmarks import cities as build

from sysdpo.applications.answers.cities import COUNTRIES, COUNTRY_OF, CitiesWorld, is_right, questions
from sysdpo.base.errors import UserError
from sysdpo.method.values import Completion

SIZES = {"train": 210, "validation": 40, "test": 100}


@pytest.fixture(scope="module")
def world() -> CitiesWorld:
    return build({"unseen": 0.4}, {"smollm2": {}})


def test_every_question_occurs_once_and_has_one_word_for_an_answer() -> None:
    all_questions = questions(COUNTRY_OF)
    assert len({question.text for question in all_questions}) == len(all_questions)
    for question in all_questions:
        assert question.city in question.text
        assert question.answer.isalpha()
        assert question.country not in question.text
        assert question.answer not in question.text.split()
    cities = [city for _, names in COUNTRIES.values() for city in names.split()]
    assert len(cities) == len(set(cities))


def test_held_out_prompts_ask_about_other_cities(world: CitiesWorld) -> None:
    table = world.prompts(**SIZES, seed=0)
    assert table["split"].value_counts().to_dict() == SIZES
    assert table["prompt_id"].is_unique
    assert table["text"].is_unique
    train = set(table.query("split == 'train'")["content"])
    assert train.isdisjoint(table.query("split != 'train'")["content"])
    assert table.equals(world.prompts(**SIZES, seed=0))
    assert not table.equals(world.prompts(**SIZES, seed=1))
    assert not set(table.query("split == 'validation'")["content"]) & set(table.query("split == 'test'")["content"])
    assert len(questions(world.cities[0])) + len(world.unseen) == len(questions(COUNTRY_OF))


@pytest.mark.parametrize(
    ("answer", "right"),
    [("French", True), (" french.", True), ("French, of course", False), ("Frenchman", False), ("", False)],
)
def test_the_judge_wants_the_word_and_nothing_else(world: CitiesWorld, answer: str, right: bool) -> None:
    assert is_right(answer, "French") is right
    assert world.is_right(answer, "French") is right


class Parrot:
    """Says a city's country as a draft; as an answer whatever fits the country that the draft names."""

    def sample(self, conditions, *, seeds):
        return [Completion(self.say(*map(str, condition)), ()) for condition in conditions]

    def say(self, question: str, draft: str = "") -> str:
        match = next(known for known in questions(COUNTRY_OF) if known.text == question)
        if not draft:
            return f"{match.city} is in {match.country}."
        return next(language for country, (language, _) in COUNTRIES.items() if country in draft)


def test_what_is_measured_of_a_system_whose_second_model_relies_on_its_draft(world: CitiesWorld) -> None:
    class System:
        components = {"first": Parrot(), "second": Parrot()}  # noqa: RUF012

    assert world.inspect(System(), 0) == {
        "draft_names_country": 1.0,
        "right_given_draft": 1.0,
        "right_given_country": 1.0,
        "right_given_wrong_country": 0.0,
    }


@pytest.mark.parametrize(
    ("settings", "foundation", "message"),
    [
        ({"unseen": 1.0}, {}, "questions.unseen: 1.0 should be below 1"),
        ({"unsen": 0.5}, {}, "unknown key"),
        ({}, {"smollm3": {}}, "did you mean 'smollm2'"),
    ],
)
def test_bad_settings_are_named(settings: dict, foundation: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(settings, foundation)


def test_more_prompts_than_there_are_questions(world: CitiesWorld) -> None:
    with pytest.raises(UserError, match="should be at most"):
        world.prompts(train=10_000, validation=1, test=1, seed=0)
