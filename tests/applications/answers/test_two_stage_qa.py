"""The two-stage system: its graph, its score, its metrics, and the world that the configuration names."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_models
from tried_benchmarks import build

from sysdpo.base.errors import UserError
from sysdpo.method.preferences import as_frame
from sysdpo.method.values import Completion

LANGUAGE = {"lora": tiny_models.LANGUAGE_LORA}
TINY = {"examples": 20, "steps": 2, "batch_size": 4, "width": 16, "layers": 1}
SETTINGS: dict[str, Any] = {
    "factory": "sysdpo.applications.answers.settings:TwoStageQA",
    "questions": {"source": "sysdpo.applications.answers.settings:Sums"},
    "prompts": {"train": 6, "validation": 2, "test": 4},
    "foundation": {"first": TINY, "second": TINY},
    "components": {
        name: {"max_new_tokens": 3, "lora": tiny_models.LANGUAGE_LORA, "batch_size": 64} for name in ("first", "second")
    },
}


def settings(**over: Any) -> dict[str, Any]:
    return copy.deepcopy(SETTINGS) | over


class Capitals:
    """A world that knows no sums: what it says is all that the system may rely on."""

    def __init__(self, questions: Mapping[str, Any], foundation: Mapping[str, Any]):
        self.foundations: dict = {}
        self.default_components: dict = {}
        self.public_models: dict = {}
        self.arguments = (dict(questions), dict(foundation))

    def prompts(self, train: int, validation: int, test: int, seed: int) -> pd.DataFrame:
        sizes = {"train": train, "validation": validation, "test": test}
        splits = [split for split, size in sizes.items() for _ in range(size)]
        ids = [f"{split}{row}" for row, split in enumerate(splits)]
        return pd.DataFrame({"prompt_id": ids, "split": splits, "text": "capital of france", "answer": "paris"})

    def is_right(self, answer: str, expected: str) -> bool:
        return expected in answer

    def inspect(self, system: Any, seed: int) -> dict[str, Any]:
        return {"components": sorted(system.components), "seed": seed}


def capitals(**over: Any) -> dict[str, Any]:
    return settings(questions={"source": f"{__name__}:Capitals", "hard": True}, foundation={}, **over)


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foundation")
    benchmark = build(settings())
    assert set(benchmark.foundations) == {"first", "second"}
    for name, make in benchmark.foundations.items():
        make(0, folder / name)
    return folder


def trajectories(answers: list[Completion]) -> pd.DataFrame:
    ids = [f"p{row // 2}" for row in range(len(answers))]
    drafts = [Completion("7 up 2", (1, 2, 3))] * len(answers)
    return as_frame(ids, [row % 2 for row in range(len(answers))], {"draft": drafts, "answer": answers})


PROMPTS = pd.DataFrame({"prompt_id": ["p1", "p0"], "answer": ["4", "6"]})
ANSWERED = trajectories(
    [
        Completion("9 , 6", (1, 2, 3, 4)),
        Completion("9 , 4", (1, 2, 3, 4)),
        Completion("4", (1, 2)),
        Completion("4 , 6 ,", (1, 2, 3, 4, 5)),
    ]
)


def test_only_the_answer_is_judged_against_its_own_prompt() -> None:
    scores = build(settings()).score(PROMPTS, ANSWERED, Path())
    assert scores["score"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert scores["trajectory_id"].tolist() == ["p0/0", "p0/1", "p1/0", "p1/1"]


def test_metrics_of_hand_made_answers() -> None:
    benchmark = build(settings())
    metrics = benchmark.metrics(PROMPTS, ANSWERED, benchmark.score(PROMPTS, ANSWERED, Path()), Path())
    assert metrics["accuracy"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert metrics["length"].tolist() == [4.0, 4.0, 2.0, 5.0]


@pytest.mark.parametrize(("table", "column"), [("prompts", "answer"), ("trajectories", "answer")])
def test_a_table_that_lacks_a_column_is_refused(table: str, column: str) -> None:
    tables = {"prompts": PROMPTS, "trajectories": ANSWERED}
    tables[table] = tables[table].drop(columns=column)
    with pytest.raises(UserError, match=f"{table}.*{column}"):
        build(settings()).score(tables["prompts"], tables["trajectories"], Path())


def test_the_second_model_reads_question_and_draft(foundation: Path) -> None:
    benchmark = build(settings())
    system = benchmark.system(foundation)
    assert {node.name: (node.component, node.parents) for node in system.nodes} == {
        "draft": ("first", ("text",)),
        "answer": ("second", ("text", "draft")),
    }
    assert system.trainable == ["first", "second"]
    assert (benchmark.inputs, system.outputs) == (("text",), ("answer",))
    sampled = system.sample({"text": ["tom has 7 pears , finds 2 , drops 3"]}, seeds=[0])
    assert len(sampled["answer"][0].tokens) <= 3
    assert (
        system.components["second"].encode_prompt.template.format("Q", sampled["draft"][0])
        == f"Q : {sampled['draft'][0]} ="
    )


def test_inspection_measures_shares(foundation: Path) -> None:
    quality = build(settings()).inspect(foundation, 0)
    assert {"draft_whole", "draft_dialect_b", "right_given_a", "right_given_b"} <= set(quality)
    assert all(0 <= value <= 1 for value in quality.values())


def test_the_world_is_the_configuration_s(language_folder: Path) -> None:
    own = {"model": str(language_folder), "template": "cat {0}", "lora": tiny_models.LANGUAGE_LORA}
    benchmark = build(capitals(components={"first": own, "second": own | {"template": "{1} dog"}}))
    assert benchmark.world.arguments == ({"hard": True}, {})
    assert benchmark.prompts()["split"].value_counts().to_dict() == {"train": 6, "test": 4, "validation": 2}
    answers = trajectories([Completion("it is paris", (1,)), Completion("9 , 6", (1,))])
    prompts = pd.DataFrame({"prompt_id": ["p0"], "answer": ["paris"]})
    assert benchmark.score(prompts, answers, Path())["score"].tolist() == [1.0, 0.0]
    system = benchmark.system(Path())
    assert system.components["first"].encode_prompt.template == "cat {0}"
    assert system.components["second"].encode_prompt.template == "{1} dog"
    assert benchmark.inspect(Path(), 7) == {"components": ["first", "second"], "seed": 7}


def test_a_model_of_one_s_own_needs_a_template(language_folder: Path) -> None:
    own = {"model": str(language_folder), "lora": tiny_models.LANGUAGE_LORA}
    with pytest.raises(UserError, match=r"components.first.template: it should be given for the model"):
        build(capitals(components={"first": own, "second": own})).system(Path())


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"qestions": {}}, r"systems.two_stage_qa: unknown key 'qestions'"),
        ({"questions": None}, r"questions: None should be a mapping"),
        (
            {"questions": {"source": "sysdpo.applications.answers.sums:built"}},
            r"questions.source: .*should name a function",
        ),
        ({"questions": {"source": "nowhere:build"}}, r"questions.source: 'nowhere:build' should name a function"),
        ({"prompts": {"trian": 3}}, r"prompts: unknown key 'trian'"),
        (
            {"components": {"first": {"lora": tiny_models.LANGUAGE_LORA}}},
            r"components: the keys \['second'\] are missing",
        ),
        (
            {"components": {"first": LANGUAGE | {"temprature": 1}, "second": LANGUAGE}},
            r"components.first: unknown key 'temprature'",
        ),
    ],
)
def test_bad_settings_are_refused(over: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(settings(**over))
