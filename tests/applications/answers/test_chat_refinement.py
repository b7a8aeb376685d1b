"""The chat system: its graph, its prompts, what the data prefer, its scores, and the whole of it with tiny checkpoints.

The checkpoints are random, but of the classes that the paper's scale has.
"""

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_chat
from steps import Steps
from transformers import AutoTokenizer
from tried_benchmarks import build

from sysdpo.applications.answers.reward_model import RewardModel
from sysdpo.base.errors import UserError
from sysdpo.method.preferences import as_frame, read_trajectories
from sysdpo.method.values import Completion
from sysdpo.run.cli import main

LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("chat")
    qwen = {"model": str(tiny_chat.save_qwen2(root / "qwen")), "max_new_tokens": 8, "batch_size": 16, "lora": LORA}
    system = {
        "factory": "sysdpo.applications.answers.settings:ChatRefinement",
        "data": {"source": str(tiny_chat.save_orca_pairs(root / "data")), "max_prompt_characters": 200},
        "prompts": {"train": 6, "validation": 2, "test": 4, "seed": 0},
        "scorer": {"model": str(tiny_chat.save_pair_reward_model(root / "pair")), "batch_size": 8},
        "judge": {"model": str(tiny_chat.save_chat_reward_model(root / "reward")), "max_length": 512},
        "components": {"drafter": dict(qwen), "refiner": dict(qwen)},
        "trajectories": {"samples_per_prompt": 2},
        "training": {
            "steps": 2,
            "batch_size": 2,
            "learning_rate": {"drafter": 1.0e-3, "refiner": 1.0e-3},
            "chosen_weight": {"drafter": 0.0, "refiner": 0.0},
            "candidates": {"count": 2},
        },
        "methods": {
            "before": {"objective": "none"},
            "direct": {"objective": "direct"},
            "sampling": {"objective": "sampling", "preferences": "dataset"},
        },
        "baselines": ["before"],
        "evaluation": {"samples_per_prompt": 1, "win_rates_against": ["before"]},
        "figures": ["comparison"],
    }
    return {"results": str(root / "results"), "seeds": [0], "systems": {"chat_refinement": system}}


@pytest.fixture
def settings(config: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(config["systems"]["chat_refinement"])


def trajectories(*rows: tuple[str, str, str]) -> pd.DataFrame:
    """Of these prompts, with these drafts (of three tokens) and answers (of two)."""
    drafts = [Completion(draft, (7, 8, 9)) for _, draft, _ in rows]
    answers = [Completion(answer, (8, 9)) for *_, answer in rows]
    return as_frame([row[0] for row in rows], range(len(rows)), {"draft": drafts, "answer": answers})


def test_prompts_are_drawn_from_the_data_and_no_question_is_in_two_splits(settings: dict[str, Any]) -> None:
    prompts = build(settings).prompts()
    assert prompts["split"].value_counts().to_dict() == {"train": 6, "test": 4, "validation": 2}
    assert prompts["prompt_id"].is_unique
    assert prompts["text"].is_unique
    there = tiny_chat.orca_pairs().rename(columns={"question": "text"})
    rows = there.loc[[int(name.removeprefix("row")) for name in prompts["prompt_id"]]].reset_index(drop=True)
    pd.testing.assert_frame_equal(prompts[rows.columns], rows, check_dtype=False)
    assert "" in prompts["system"].tolist()
    assert build(settings).prompts().equals(prompts)
    settings["prompts"]["seed"] = 1
    assert not build(settings).prompts()["text"].equals(prompts["text"])


def test_more_training_prompts_leave_the_others_as_they_are(settings: dict[str, Any]) -> None:
    few = build(settings).prompts().query("split != 'train'")
    settings["prompts"]["train"] = 20
    assert build(settings).prompts().query("split != 'train'").equals(few)


def test_long_questions_are_left_out(settings: dict[str, Any]) -> None:
    settings["data"]["max_prompt_characters"] = 40
    prompts = build(settings).prompts()
    assert (prompts["text"] + prompts["system"]).str.len().max() <= 40
    settings["data"]["max_prompt_characters"] = 20
    with pytest.raises(UserError, match=r"prompts: train, validation and test should be 6 together at most.* 2 and 4"):
        build(settings).prompts()


def test_the_drafter_reads_question_and_system_prompt_the_refiner_the_draft_too(settings: dict[str, Any]) -> None:
    benchmark = build(settings)
    system = benchmark.system(Path())
    assert (system.inputs, system.outputs) == (("text", "system"), ("answer",))
    assert system.trainable == ["drafter", "refiner"]
    drafter, refiner = system.components["drafter"], system.components["refiner"]

    def read(component: Any, *condition: Any) -> str:
        return component.tokenizer.decode(component.encode_prompt(condition))

    end = "<|im_end|>\n<|im_start|>assistant\n"
    turns = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?"
    assert read(drafter, "Why?", "Be brief.") == turns + end
    assert "You are a helpful assistant" in read(drafter, "Why?", "")  # Qwen's own, where the data have none
    draft = Completion("So {1}.", (1,))
    assert read(refiner, "Why?", draft, "Be brief.").startswith(f"{turns}\n\nSomebody has drafted")
    assert "<draft>\nSo {1}.\n</draft>" in read(refiner, "Why?", draft, "Be brief.")
    sampled = system.sample({"text": ["Why?"] * 2, "system": ["", "Be brief."]}, seeds=[0, 1])
    assert {len(sampled[name]) for name in ("draft", "answer")} == {2}


def test_the_configuration_s_own_templates_come_first(settings: dict[str, Any]) -> None:
    settings["components"]["refiner"] |= {"template": "{1}!", "system_prompt": ""}
    components = build(settings).components
    assert (components["refiner"].template, components["refiner"].system_prompt) == ("{1}!", "")
    assert (components["drafter"].template, components["drafter"].system_prompt) == ("{0}", "{1}")


def test_given_are_the_data_s_two_answers_in_the_refiner_s_tokens(settings: dict[str, Any]) -> None:
    settings["components"]["refiner"]["max_new_tokens"] = 100
    benchmark = build(settings)
    prompts = benchmark.prompts().query("split == 'train'")
    answers, pairs = benchmark.preferences(prompts)
    assert "draft" not in answers
    assert answers["prompt_id"].tolist() == [name for name in prompts["prompt_id"] for _ in range(2)]
    assert answers["text"].tolist() == [text for text in prompts["text"] for _ in range(2)]
    rows = answers.set_index("trajectory_id")
    for side in ("chosen", "rejected"):
        found = dict(zip(pairs["prompt_id"], map(str, rows.loc[pairs[f"{side}_id"], "answer"]), strict=True))
        assert found == prompts.set_index("prompt_id")[side].to_dict()
    assert [str(answer) for answer in answers["answer"][::2]] == prompts["chosen"].tolist()
    assert [str(answer) for answer in answers["answer"][1::2]] == prompts["rejected"].tolist()
    tokenizer = AutoTokenizer.from_pretrained(settings["components"]["refiner"]["model"])
    for answer in answers["answer"]:
        assert tokenizer.decode(answer.tokens) == f"{answer.text}<|im_end|>"


def test_given_answers_end_where_the_refiner_s_own_would(settings: dict[str, Any]) -> None:
    settings["components"]["refiner"]["max_new_tokens"] = 3
    benchmark = build(settings)
    prompts = benchmark.prompts().query("split == 'train'").head(2).reset_index(drop=True)
    prompts["chosen"] = ["No cat. None.", "A cat."]
    prompts["rejected"] = ["No cat. At all.", "No cat."]
    answers, pairs = benchmark.preferences(prompts)
    assert answers["prompt_id"].tolist() == [prompts["prompt_id"][1]] * 2  # the first prompt's differ too late
    assert [len(answer.tokens) for answer in answers["answer"]] == [3, 3]
    assert len(pairs) == 1
    with pytest.raises(UserError, match=r"components.refiner.max_new_tokens: 3 should reach to where"):
        benchmark.preferences(prompts.head(1))


def test_only_the_answer_is_scored_against_its_own_prompt(settings: dict[str, Any]) -> None:
    benchmark = build(settings)
    prompts = benchmark.prompts().query("split == 'test'")
    (one, text, system), (other, *_) = prompts[["prompt_id", "text", "system"]].head(2).to_numpy()
    samples = trajectories((one, "A cat.", "No."), (other, "A cat.", "No."), (one, "No.", "No."))
    scores = benchmark.score(prompts, samples, Path())
    expected = RewardModel(settings["scorer"]["model"]).score([system], [text], ["No."])[0]
    assert scores["score"][[0, 2]].tolist() == pytest.approx([expected] * 2, abs=1e-5)
    assert scores["score"][1] != pytest.approx(expected, abs=1e-3)
    assert scores["trajectory_id"].tolist() == samples["trajectory_id"].tolist()


def test_metrics_of_hand_made_answers(settings: dict[str, Any]) -> None:
    benchmark = build(settings)
    prompts = benchmark.prompts().query("split == 'test'")
    name, text, system = prompts[["prompt_id", "text", "system"]].iloc[0]
    samples = trajectories((name, "A cat.", "No."), (name, "No.", "A cat."))
    scores = benchmark.score(prompts, samples, Path())
    metrics = benchmark.metrics(prompts, samples, scores, Path())
    assert set(metrics) == {"reward", "draft_reward", "length", "draft_length", "judge_score"}
    benchmark.description.check_measured(metrics, "the metrics")
    assert metrics["draft_reward"].tolist() == pytest.approx(metrics["reward"].tolist()[::-1], abs=1e-5)
    assert (metrics["length"].tolist(), metrics["draft_length"].tolist()) == ([2.0, 2.0], [3.0, 3.0])
    judged = RewardModel(settings["judge"]["model"]).score([system] * 2, [text] * 2, ["No.", "A cat."])
    assert metrics["judge_score"].tolist() == pytest.approx(judged, abs=1e-5)
    del settings["judge"]
    assert "judge_score" not in build(settings).metrics(prompts, samples, scores, Path())


@pytest.mark.parametrize(("table", "column"), [("prompts", "system"), ("trajectories", "answer")])
def test_a_table_that_lacks_a_column_is_refused(settings: dict[str, Any], table: str, column: str) -> None:
    benchmark = build(settings)
    tables = {"prompts": benchmark.prompts(), "trajectories": trajectories(("row00001", "", ""))}
    tables[table] = tables[table].drop(columns=column)
    with pytest.raises(UserError, match=f"{table}.*{column}"):
        benchmark.score(tables["prompts"], tables["trajectories"], Path())


def test_inspection_measures_answers_and_drafts(settings: dict[str, Any]) -> None:
    quality = build(settings).inspect(Path(), 0)
    assert set(quality) == {"answer", "draft"}
    assert quality["answer"] != quality["draft"]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("questions", {}, r"systems.chat_refinement: unknown key 'questions'"),
        ("data", None, r"systems.chat_refinement.data: None should be a mapping"),
        ("data.sorce", "x", r"systems.chat_refinement.data: unknown key 'sorce'"),
        ("data.max_prompt_characters", 0, r"data.max_prompt_characters: 0 should be at least 1"),
        ("data.source", "/no/where", r"systems.chat_refinement.data.source: '/no/where' should be"),
        ("prompts.test", 0, r"systems.chat_refinement.prompts.test: 0 should be at least 1"),
        ("scorer", None, r"systems.chat_refinement.scorer: None should be a mapping"),
        ("judge.dtype", "int8", r"dtype: 'int8' should be one of \['float32'"),
        ("components", {"writer": {}}, r"components: unknown key 'writer'"),
        ("components.drafter.model", None, r"components.drafter.model: null should be a hub id or a folder"),
        ("components.refiner.temprature", 1, r"components.refiner: unknown key 'temprature'"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, Any], setting: str, value: Any, message: str) -> None:
    *folders, last = setting.split(".")
    section = settings
    for folder in folders:
        section = section[folder]
    section[last] = value
    with pytest.raises(UserError, match=message) as caught:
        build(settings).prompts()
    assert "\n" not in str(caught.value)


def test_the_whole_of_it(tmp_path: Path, config: dict[str, Any]) -> None:
    steps = Steps(tmp_path, config)
    for step in ("validate", "prompts", "sample", "score", "pair"):
        assert steps(step) == 0
    paths = ["--prompts", str(steps.runs / "prompts.parquet"), "--output", str(steps.runs / "dataset")]
    assert main(["dataset", "--config", str(steps.config), "--system", steps.system, *paths]) == 0
    tables: dict[str, Any] = {name: steps.runs / "dataset" / f"{name}.parquet" for name in ("trajectories", "pairs")}
    tables["scores"] = None
    assert len(pd.read_parquet(tables["pairs"])) == 6
    assert steps("train", method="direct") == 0
    assert steps("train", method="sampling", **tables) == 0
    assert steps("evaluate", method="before") == 0
    for method in ("direct", "sampling"):
        assert steps("evaluate", method=method, training=steps.run / method / "training") == 0
    metrics = pd.read_csv(steps.compare("before", "direct", "sampling"))
    assert {"reward", "judge_score", "draft_reward", "length", "win_rate_vs_before"} <= set(metrics["metric"])
    judged = metrics.query("metric == 'preference_accuracy'").set_index("method")["mean"]
    assert set(judged.index) == {"before", "direct", "sampling"}
    assert judged["before"] == 0.5
    assert metrics.query("metric == 'kl_refiner' and method == 'before'")["mean"].tolist() == [0.0]
    drift = metrics.query("method == 'sampling' and metric in ['kl_drafter', 'kl_refiner']")["mean"]
    assert (drift != 0).all()  # the draft's model learns too, though no draft is known
    assert read_trajectories(steps.run / "sampling/evaluation/samples.parquet")["system"].isin(tiny_chat.SYSTEMS).all()


def test_given_answers_end_as_the_model_s_own_turns_do(settings: dict[str, Any], tmp_path: Path) -> None:
    """Gemma's tokenizer has another end token than its chat template ends a turn with; here it is Qwen's."""
    tokenizer = AutoTokenizer.from_pretrained(settings["components"]["refiner"]["model"])
    tokenizer.eos_token = tiny_chat.END_OF_TEXT
    tokenizer.save_pretrained(tmp_path / "gemma")
    settings["components"]["refiner"] |= {"model": str(tmp_path / "gemma"), "max_new_tokens": 100}
    benchmark = build(settings)
    answers, _ = benchmark.preferences(benchmark.prompts().query("split == 'train'"))
    ends = {tokenizer.convert_ids_to_tokens(answer.tokens[-1]) for answer in answers["answer"]}
    assert ends == {tiny_chat.END_OF_TURN}
    assert not any(tiny_chat.END_OF_TURN in str(answer) for answer in answers["answer"])


def test_a_tokenizer_without_an_end_token_has_no_given_answers(settings: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(settings["components"]["refiner"]["model"])
    tokenizer.eos_token = tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "endless")
    (tmp_path / "endless" / "chat_template.jinja").unlink(missing_ok=True)
    settings["components"]["refiner"]["model"] = str(tmp_path / "endless")
    benchmark = build(settings)
    with pytest.raises(
        UserError, match=r"components.refiner.model: '.*endless' should have a tokenizer with an end token"
    ):
        benchmark.preferences(benchmark.prompts().query("split == 'train'"))


def test_chat_template_arguments_are_a_setting_of_each_component(
    config: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_chat.save_qwen2(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tiny_chat.CHATML + "{{ date_string }}"
    tokenizer.save_pretrained(folder)
    settings["components"]["drafter"] |= {"model": str(folder), "chat_template_kwargs": {"date_string": "26 Jul 2024"}}
    drafter = build(settings).system(Path()).components["drafter"]
    assert drafter.tokenizer.decode(drafter.encode_prompt(("Q", ""))).endswith("assistant\n26 Jul 2024")


def test_without_a_judge_its_metric_is_not_declared(settings: dict[str, Any]) -> None:
    described = build(settings | {"judge": None}).description
    assert "judge_score" in build(settings).description.metrics
    assert "judge_score" not in {*described.metrics, *described.headline, *described.table}
