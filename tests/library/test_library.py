"""The library as a notebook uses it: a system of one's own, preferences from a file, align, save, load, compare."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_models
import torch

import sysdpo
from sysdpo import LanguageModel, Node, System, Table, UserError, align, read_preferences

CONTEXT = {"red": "the red cat", "blue": "the blue dog"}


def retrieve(question: str) -> str:
    return CONTEXT[question]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_language_model(tmp_path_factory.mktemp("models") / "reader")


def pipeline(folder: Path, **settings) -> System:
    """A retriever, a reader of what it finds, and an answerer that reads the draft; the models share no weights."""
    common = {"lora": tiny_models.LANGUAGE_LORA, "max_new_tokens": 3} | settings
    reader = LanguageModel.from_pretrained(folder, **common)
    writer = LanguageModel.from_pretrained(folder, **common)
    return System(
        inputs=["question"],
        nodes=[
            Node("passage", retrieve, ["question"]),
            Node("draft", reader, ["question", "passage"], template="{passage} {question}"),
            Node("answer", writer, ["question", "draft"], template="{question} {draft}"),
        ],
    )


WHOLE = [
    {
        "question": question,
        "chosen": {"passage": CONTEXT[question], "draft": "cat runs", "answer": "cat"},
        "rejected": {"passage": CONTEXT[question], "draft": "dog sleeps", "answer": "dog"},
    }
    for question in CONTEXT
]
OUTPUTS = [{"prompt": question, "chosen": "cat", "rejected": "dog"} for question in CONTEXT]


def test_a_system_is_its_nodes_and_a_call_is_its_output(folder: Path) -> None:
    system = pipeline(folder)
    assert list(system.components) == ["passage", "draft", "answer"]
    assert system.trainable == ["draft", "answer"]
    assert system.outputs == ("answer",)
    assert system("red", seed=1) == system(question="red", seed=1)
    assert type(system("red")) is str
    with pytest.raises(UserError, match=r"inputs: \['red', 'blue'\] should be one value for each of \['question'\]"):
        system("red", "blue")


def test_nodes_that_hold_one_object_share_its_weights(folder: Path) -> None:
    model = LanguageModel.from_pretrained(folder, lora=tiny_models.LANGUAGE_LORA, max_new_tokens=2)
    nodes = [
        Node("draft", model, ["question"]),
        Node("answer", model, ["question", "draft"], template="{draft} {question}"),
    ]
    system = System(["question"], nodes)
    assert list(system.components) == ["draft"]
    assert [node.component for node in system.nodes] == ["draft", "draft"]


def test_what_is_neither_a_component_nor_a_function_is_refused() -> None:
    with pytest.raises(UserError, match="node 'answer': a int should be a function, or a component, which has"):
        System(["question"], [Node("answer", 3, ["question"])])


def test_a_function_that_gives_nothing_is_named() -> None:
    system = System(["question"], [Node("passage", {"red": "x"}.get, ["question"])])
    with pytest.raises(UserError, match="node 'passage': it should have a value for each of 1 rows; got None"):
        system("blue")


@pytest.mark.parametrize(("rows", "method"), [(WHOLE, "direct"), (WHOLE, "separate"), (OUTPUTS, "sampling")])
def test_aligning_makes_the_chosen_likelier_than_the_rejected(folder: Path, rows: list, method: str) -> None:
    system = pipeline(folder)
    preferences = read_preferences(rows, system)
    candidates = {"count": 2, "refresh": 1}
    result = align(
        system, preferences, method=method, beta=0.5, steps=8, warmup_steps=0, learning_rate=0.05, held_out=preferences,
        candidates=candidates,
    )  # fmt: skip
    assert result.log["loss"].iloc[0] == pytest.approx(0.693147 * (2 if method == "separate" else 1), abs=1e-5)
    assert result.log["loss"].iloc[-1] < result.log["loss"].iloc[0]
    assert result.preference_accuracy == 1.0
    assert result.settings.batch_size == 2


def test_reset_takes_a_training_back(folder: Path) -> None:
    system = pipeline(folder)
    before = [weight.clone() for part in system.components.values() for weight in part.trainable_parameters()]
    align(system, read_preferences(WHOLE, system), steps=3, rounds=2, learning_rate=0.05)
    changed = [weight for part in system.components.values() for weight in part.trainable_parameters()]
    assert any(not torch.equal(one, other) for one, other in zip(before, changed, strict=True))
    system.reset()
    after = [weight for part in system.components.values() for weight in part.trainable_parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    frame = read_preferences(WHOLE, system).trajectories
    ratios = system.log_ratios({name: frame[name].tolist() for name in frame.columns}, draw=range(len(frame)))
    assert all(ratio.eq(0).all() for name, ratio in ratios.items() if name != "passage")


def test_a_saved_system_is_loaded_as_it_was(folder: Path, tmp_path: Path) -> None:
    system = pipeline(folder)
    align(system, read_preferences(WHOLE, system), steps=3, learning_rate=0.05)
    system.save(tmp_path / "aligned")
    again = System.load(tmp_path / "aligned", functions={"passage": retrieve})
    for question in CONTEXT:
        assert again(question, seed=3) == system(question, seed=3)
    assert (tmp_path / "aligned/adapters/draft/adapter_model.safetensors").exists()
    card = (tmp_path / "aligned/README.md").read_text()
    assert "base_model:" in card
    assert "`answer`: `answer` from question, draft" in card
    side = sysdpo.compare({"aligned": system, "loaded": again}, "red", samples=2, seed=3)
    assert side["aligned"].tolist() == side["loaded"].tolist()
    assert side.index.get_level_values("variable").unique().tolist() == ["passage", "draft", "answer"]


def test_what_is_missing_when_a_system_is_loaded_is_said(folder: Path, tmp_path: Path) -> None:
    pipeline(folder).save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"functions: those of \['passage'\] should be given"):
        System.load(tmp_path / "saved")
    with pytest.raises(UserError, match=r"should be a system that was saved, but cannot be read"):
        System.load(tmp_path)
    table = Table([("red",)], ["x", "y"], torch.zeros(1, 2))
    with pytest.raises(UserError, match="component 'answer': it should be made by from_pretrained to be saved"):
        System(["question"], [Node("answer", table, ["question"])]).save(tmp_path / "other")


def test_a_frozen_model_is_a_component_like_any_other(folder: Path) -> None:
    frozen = LanguageModel.from_pretrained(folder, lora=None, max_new_tokens=3)
    writer = LanguageModel.from_pretrained(folder, lora=tiny_models.LANGUAGE_LORA, max_new_tokens=3)
    nodes = [
        Node("draft", frozen, ["question"]),
        Node("answer", writer, ["question", "draft"], template="{question} {draft}"),
    ]
    system = System(["question"], nodes)
    assert system.trainable == ["answer"]
    rows = [
        {"question": "red", "chosen": {"draft": "cat", "answer": "cat"}, "rejected": {"draft": "dog", "answer": "dog"}}
    ]
    before = [weight.clone() for weight in frozen.model.parameters()]
    align(system, read_preferences(rows, system), steps=3, learning_rate=0.05)
    assert all(torch.equal(one, other) for one, other in zip(before, frozen.model.parameters(), strict=True))
    hidden = [{"question": "red", "chosen": "cat", "rejected": "dog"}]
    result = align(system, read_preferences(hidden, system), method="sampling", steps=2, candidates={"count": 2})
    assert result.log["candidates"].max() == 2
    policy, reference = system.log_probs(
        {"question": ["red"], "draft": [frozen.value_of("cat")]}, draw=[0], components=["draft"]
    )["draft"]
    assert torch.equal(policy, reference)
    assert not policy.requires_grad


def test_preferences_come_from_files_and_tables_alike(folder: Path, tmp_path: Path) -> None:
    system = pipeline(folder)
    lines = tmp_path / "prefs.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in WHOLE))
    table = tmp_path / "prefs.csv"
    pd.DataFrame(OUTPUTS).to_csv(table, index=False)
    whole, outputs = read_preferences(lines, system), read_preferences(table, system)
    assert whole.trajectories.equals(read_preferences(WHOLE, system).trajectories)
    assert outputs.trajectories.equals(read_preferences(pd.DataFrame(OUTPUTS), system).trajectories)
    assert "draft" not in outputs.trajectories
    assert whole.trajectories["draft"][0].tokens[-1] == system.components["draft"].tokenizer.eos_token_id
    first, second = whole.split(0.5)
    assert len(first) == len(second) == 1
    assert not set(first.pairs["prompt_id"]) & set(second.pairs["prompt_id"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "there are no rows"),
        ([{"question": "red", "chosen": "cat"}], r"row 0 lacks \['rejected'\]; it has \['chosen', 'question'\]"),
        ([OUTPUTS[0], {"chosen": "cat", "rejected": "dog"}], r"row 1 lacks \['question'\]"),
        ([{"question": "red", "chosen": {"answr": "cat"}, "rejected": "dog"}], r"row 0, chosen: \['answr'\] should be"),
        ([{"question": "red", "chosen": {"draft": "cat"}, "rejected": "dog"}], r"row 0, chosen: it lacks the outputs"),
        ([WHOLE[0], OUTPUTS[1]], r"row 1, chosen: it should have the variables \['answer', 'draft', 'passage'\]"),
        (3, "they should be a file, a folder, a data frame, a data set, or a list of mappings"),
        (Path("none.jsonl"), "'none.jsonl' should be a .jsonl file, but cannot be read"),
    ],
)
def test_preferences_that_are_none_are_refused(folder: Path, rows: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_preferences(rows, pipeline(folder))


def test_a_method_that_must_see_what_is_hidden_is_refused(folder: Path) -> None:
    system = pipeline(folder)
    with pytest.raises(
        UserError, match=r"preferences: they have no values of \['passage', 'draft'\], which 'direct' must"
    ):
        align(system, read_preferences(OUTPUTS, system))
    with pytest.raises(UserError, match=r"beta: -1 should be above 0"):
        align(system, read_preferences(WHOLE, system), beta=-1)


def test_metrics_are_functions_of_what_they_name(folder: Path) -> None:
    prompts = [{"question": "red", "expected": "cat"}, {"question": "blue", "expected": "dog"}]
    found = sysdpo.evaluate(
        pipeline(folder),
        prompts,
        {
            "right": lambda answer, expected: float(answer == expected),
            "one": lambda: 1.0,
            "words": lambda passage: len(passage.split()),
        },
        samples=3,
    )
    assert found["metric"].tolist() == ["right", "one", "words"]
    assert found["mean"].tolist()[1:] == [1.0, 3.0]
    assert (found["ci_low"] <= found["mean"]).all()
    with pytest.raises(UserError, match=r"asks for \['truth'\], which should be among"):
        sysdpo.evaluate(pipeline(folder), prompts, {"right": lambda truth: 1.0})


def test_the_package_is_imported_without_the_model_libraries() -> None:
    code = "import sys, sysdpo; print({'torch', 'transformers', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert set(sysdpo.__all__) <= set(dir(sysdpo))
    for name in sysdpo.__all__:
        assert getattr(sysdpo, name)
