"""The language of the sums, enumerated: what a draft leaves open, what it tells, and who may be asked what."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from tried_benchmarks import sums as build

from sysdpo.applications.answers.settings import FirstSettings, SecondSettings
from sysdpo.applications.answers.solvers import taught_answer, taught_draft
from sysdpo.applications.answers.sums_language import (
    CARELESS,
    LARGEST,
    SIGNS,
    VERBS,
    Question,
    Sum,
    answer,
    dialect_of,
    draft,
    is_right,
    questions,
    readings,
    sums,
)
from sysdpo.applications.questions import split
from sysdpo.base.errors import UserError

SUM = Sum(7, (2, -3))
QUESTION = Question(SUM, ("finds", "drops"), "tom", "pears")


def test_a_question_its_drafts_and_its_answer_by_hand() -> None:
    assert QUESTION.text == "tom has 7 pears , finds 2 , drops 3"
    assert SUM.result == 6
    assert draft(SUM, "A") == "7 plus 2 by 3"
    assert draft(SUM, "B") == "7 up 2 down 3"
    assert draft(SUM, "A", dropped=0) == "7 by 3"
    assert draft(SUM, "B", dropped=1) == "7 up 2"
    assert readings("7 plus 2 by 3") == [(9, 12), (9, 6)]
    assert readings("7 up 2 down 3") == [(9, 6)]
    assert readings("7 minus 2") == [(5,)]
    assert answer((9, 6)) == "9 , 6"


def test_an_open_sign_has_two_equally_likely_readings_and_dialect_b_has_one() -> None:
    """Over all sums: a whole draft in A comes from two sums, with different results; one in B from a single sum."""
    from_a, from_b = ({}, {})
    for problem in sums():
        from_a.setdefault(draft(problem, "A"), []).append(problem.result)
        from_b.setdefault(draft(problem, "B"), []).append(problem.result)
    for text, results in from_a.items():
        assert len(set(results)) == len(results) == 2
        assert sorted(results) == sorted(totals[-1] for totals in readings(text))
    for text, results in from_b.items():
        assert [totals[-1] for totals in readings(text)] == results


def test_both_readings_of_an_open_sign_are_equally_frequent() -> None:
    counts = Counter((draft(question.sum, "A"), question.sum.result) for question in questions(sums()))
    for problem in sums():
        other = Sum(problem.start, (problem.changes[0], -problem.changes[1]))
        assert counts[draft(problem, "A"), problem.result] == counts[draft(other, "A"), other.result] > 0


def test_every_total_of_every_draft_is_a_number_the_models_know() -> None:
    for problem in sums():
        for dialect in SIGNS:
            for dropped in (None, 0, 1):
                text = draft(problem, dialect, dropped)
                assert all(0 <= total <= LARGEST for totals in readings(text) for total in totals)
                if dropped is not None:  # a step left out cannot be made good
                    assert dialect_of(text) is None
                    assert dialect == "A" or all(totals[-1] != problem.result for totals in readings(text))


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("7 plus 2 by 3", "A"),
        ("7 up 2 down 3", "B"),
        ("7 up 2 minus 3", None),
        ("7 plus 2 plus 3", None),
        ("7 up 2", None),
        ("7 up down 2 3", None),
        ("", None),
    ],
)
def test_the_dialect_of_a_draft(text: str, dialect: str | None) -> None:
    assert dialect_of(text) == dialect


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("9 , 6", True),
        ("6", True),
        ("2 , 6", True),  # the final answer alone is judged
        ("9 , 12", False),
        ("6 , 9", False),
        ("9 , 6 ,", False),
        ("9 6", False),
        ("16", False),
        ("", False),
    ],
)
def test_the_judge(text: str, right: bool) -> None:
    assert is_right(text, "6") is right


def test_there_are_more_than_a_thousand_questions_each_with_its_verbs() -> None:
    everything = questions(sums())
    assert len({question.text for question in everything}) == len(everything) > 1000
    assert all(
        VERBS[verb] * change > 0
        for question in everything
        for verb, change in zip(question.verbs, question.sum.changes, strict=True)
    )


def test_the_table_of_prompts() -> None:
    world = build({}, {})
    table = world.prompts(train=50, validation=20, test=30, seed=1)
    assert table["split"].value_counts().to_dict() == {"train": 50, "test": 30, "validation": 20}
    assert table["text"].is_unique
    assert table["prompt_id"].is_unique
    question_of = {question.text: question for question in world.known + world.unseen}
    assert [str(question_of[text].sum.result) for text in table["text"]] == table["answer"].tolist()
    sums_of = {split: {question_of[text].sum for text in rows["text"]} for split, rows in table.groupby("split")}
    assert not sums_of["train"] & (sums_of["validation"] | sums_of["test"])
    assert not sums_of["validation"] & sums_of["test"]
    assert [question_of[text].sum.text for text in table["text"]] == table["content"].tolist()
    assert table.equals(world.prompts(train=50, validation=20, test=30, seed=1))
    assert not table.equals(world.prompts(train=50, validation=20, test=30, seed=2))


def test_each_shipped_test_prompt_has_a_sum_of_its_own() -> None:
    shipped = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())["systems"]["two_stage_qa"]
    unseen = shipped["questions"]["unseen"]
    prompts = build({"unseen": unseen}, {}).prompts(**shipped["prompts"])
    contents = {name: set(rows["content"]) for name, rows in prompts.groupby("split")}
    assert len(contents["test"]) == shipped["prompts"]["test"] >= 200
    assert not contents["test"] & (contents["train"] | contents["validation"])
    pretraining = {problem.text for problem in split(sums(), unseen)[0]}
    assert contents["train"] <= pretraining
    assert not pretraining & (contents["test"] | contents["validation"])


def test_more_prompts_than_there_are_questions_are_refused() -> None:
    with pytest.raises(UserError, match=r"prompts.train: 1000000 should be at most \d+, the questions there are"):
        build({}, {}).prompts(train=10**6, validation=1, test=1, seed=0)


@pytest.mark.parametrize(
    ("questions_section", "foundation", "message"),
    [
        ({"unseen": 1.5}, {}, r"questions.unseen: 1.5 should be below 1"),
        ({"unsen": 0.5}, {}, r"questions: unknown key 'unsen'"),
        ({}, {"third": {}}, r"foundation: unknown key 'third'"),
        ({}, {"first": {"misread": 0.5}}, r"foundation.first: unknown key 'misread'"),
        ({}, {"second": {"misread": 1.5}}, r"foundation.second.misread: 1.5 should be at most 1"),
        ({}, {"first": {"dropped": -0.5}}, r"foundation.first.dropped: -0.5 should be at least 0"),
        ({}, {"first": {"width": 24}}, r"foundation.first.width: 24 should be a multiple of 16"),
        ({}, {"first": {"steps": 0}}, r"foundation.first.steps: 0 should be at least 1"),
    ],
)
def test_bad_settings_are_refused(questions_section: dict, foundation: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(questions_section, foundation)


def test_the_first_model_is_taught_the_configured_shares() -> None:
    rng, settings = np.random.default_rng(0), FirstSettings(dialect_b=0.25, dropped=0.4)
    drafts = [taught_draft(QUESTION, settings, rng) for _ in range(4000)]
    assert set(drafts) == {"7 plus 2 by 3", "7 up 2 down 3", "7 plus 2", "7 up 2"}  # only the careless verb's step
    assert np.mean(["up" in text for text in drafts]) == pytest.approx(0.25, abs=0.03)
    assert np.mean([dialect_of(text) is None for text in drafts]) == pytest.approx(0.4, abs=0.03)
    careful = Question(SUM, ("finds", "sells"), "tom", "pears")
    assert not {*careful.verbs} & {*CARELESS}
    assert all(dialect_of(taught_draft(careful, settings, rng)) for _ in range(50))


def test_the_second_model_is_taught_the_configured_shares() -> None:
    rng, settings = np.random.default_rng(0), SecondSettings(misread=0.4)
    answers = [taught_answer("7 up 2 down 3", settings, rng) for _ in range(4000)]
    assert set(answers) == {"9 , 6", "9 , 12"}
    assert np.mean([text == "9 , 12" for text in answers]) == pytest.approx(0.4, abs=0.03)
    assert {taught_answer("7 up 2 up 3", settings, rng) for _ in range(50)} == {"9 , 12"}  # "up" it never misreads
    left_open = [taught_answer("7 plus 2 by 3", settings, rng) for _ in range(4000)]
    assert np.mean([text == "9 , 6" for text in left_open]) == pytest.approx(0.5, abs=0.03)
    assert {taught_answer("7 down 3", settings, rng) for _ in range(50)} == {"4"}
