"""The plan of a run says what follows from its settings, of small models that consist of a configuration alone."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sysdpo.base.errors import UserError
from sysdpo.method.config import load_config
from sysdpo.plan import models
from sysdpo.plan.rules import Row, SystemPlan, plan_systems

REPOSITORY = Path(__file__).parents[2]
LLAMA = {
    "model_type": "llama",
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WRITER = {
    "model": "tiny/llama",
    "max_new_tokens": 64,
    "batch_size": 8,
    "lora": {"r": 8, "target_modules": "all-linear"},
}
CHAT: dict[str, Any] = {
    "factory": "sysdpo.applications.answers.settings:ChatRefinement",
    "data": {"source": "Intel/orca_dpo_pairs", "max_prompt_characters": 2000},
    "prompts": {"train": 100, "validation": 10, "test": 20},
    "components": {"drafter": WRITER, "refiner": WRITER},
    "scorer": {"model": "tiny/judge", "batch_size": 4},
    "trajectories": {"samples_per_prompt": 4},
    "training": {
        "steps": 10,
        "batch_size": 8,
        "learning_rate": {"drafter": 1e-4, "refiner": 1e-4},
        "chosen_weight": {"drafter": 0.0, "refiner": 0.0},
        "pairs": "best_worst",
    },
    "methods": {
        "before": {"objective": "none"},
        "best_of_n": {"objective": "none", "best_of": 4},
        "only_drafter": {"objective": "only_drafter"},
        "direct": {"objective": "direct"},
        "dataset": {"objective": "sampling", "preferences": "dataset", "candidates": {"count": 2}},
    },
    "evaluation": {"samples_per_prompt": 1},
}


@pytest.fixture(scope="module", autouse=True)
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two configurations in the place of those that ship."""
    root = tmp_path_factory.mktemp("configs")
    judge = LLAMA | {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "reward"}}
    for name, described in (("tiny--llama", LLAMA), ("tiny--judge", judge)):
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(described))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "SHIPPED", root)
        yield


def config(**over: Any) -> dict[str, Any]:
    """`over` names sections, and what is other in them."""
    chat = copy.deepcopy(CHAT)
    for section, values in over.items():
        chat[section] = values if chat.get(section) is None else {**chat[section], **values}
    return {"seeds": [0, 1], "systems": {"chat": chat}}


def plan(settings: dict[str, Any] | None = None, **options: Any) -> SystemPlan:
    return SystemPlan(settings or config(), "chat", **options)


def rows(planned: SystemPlan) -> dict[str, Row]:
    return {row.rule: row for row in planned.rows()}


def with_components(**over: Any) -> dict[str, Any]:
    return config(components=dict.fromkeys(("drafter", "refiner"), WRITER | over))


@pytest.fixture(scope="module")
def usual() -> SystemPlan:
    return plan()


def test_each_rule_and_method_has_a_row_in_the_order_of_the_work(usual: SystemPlan) -> None:
    assert [row.rule for row in usual.rows()] == [
        "sample",
        "score",
        *("train only_drafter", "train direct", "train dataset"),
        *(f"evaluate {method}" for method in CHAT["methods"]),
    ]


def test_the_reference_of_an_adapter_takes_nothing(usual: SystemPlan) -> None:
    trained = [row for row in usual.rows() if row.rule.startswith(("train", "evaluate"))]
    assert [row.reference_bytes for row in trained] == [0] * len(trained)


def test_a_second_round_takes_a_second_adapter(usual: SystemPlan) -> None:
    again = plan(config(methods={"direct": {"objective": "direct", "rounds": 2}}))
    row, once = rows(again)["train direct"], rows(usual)["train direct"]
    assert row.reference_bytes == 4 * again.training("direct").trainable == 4 * once.trained
    assert row.peak_bytes - once.peak_bytes == pytest.approx(row.reference_bytes)
    assert row.usage.total_flops > 2 * once.usage.total_flops


def test_optimizer_and_gradients_are_those_of_trained_components(usual: SystemPlan) -> None:
    one, both = rows(usual)["train only_drafter"], rows(usual)["train direct"]
    assert both.trained == 2 * one.trained
    training = usual.training("direct")
    assert training.memory() - training.first.peak == usual.weights + 3 * 4 * both.trained


def test_sharded_jobs_do_the_same_work(usual: SystemPlan) -> None:
    split = plan(config(trajectories={"shards": 4}, evaluation={"shards": 2}))
    for rule, shards in (("sample", 4), ("evaluate direct", 2)):
        whole, shared = rows(usual)[rule], rows(split)[rule]
        assert shared.jobs == shards * whole.jobs
        assert shared.usage.flops == pytest.approx(whole.usage.flops, rel=0.01)
        assert (shared.usage.tokens, shared.disk_bytes) == pytest.approx((whole.usage.tokens, whole.disk_bytes))
        assert shared.peak_bytes <= whole.peak_bytes


def test_every_seed_counts(usual: SystemPlan) -> None:
    one = SystemPlan(config() | {"seeds": [0]}, "chat")
    for rule, row in rows(one).items():
        assert rows(usual)[rule].usage.total_flops == pytest.approx(2 * row.usage.total_flops)


def test_the_best_of_four_draws_four_times_as_many(usual: SystemPlan) -> None:
    best, before = rows(usual)["evaluate best_of_n"], rows(usual)["evaluate before"]
    assert best.usage.tokens == pytest.approx(4 * before.usage.tokens)
    assert best.disk_bytes == before.disk_bytes


def test_recomputed_activations_save_memory_and_cost_arithmetic(usual: SystemPlan) -> None:
    lean = plan(with_components(gradient_checkpointing=True)).training("direct")
    assert lean.first.peak < usual.training("direct").first.peak / 2
    assert lean.usage().total_flops > 1.2 * usual.training("direct").usage().total_flops


def test_fewer_pairs_at_once_save_memory_and_cost_nothing(usual: SystemPlan) -> None:
    smaller = plan(config(training={"micro_batch_size": 2})).training("direct")
    assert smaller.first.peak == pytest.approx(usual.training("direct").first.peak / 4, rel=0.05)
    assert smaller.usage().total_flops == pytest.approx(usual.training("direct").usage().total_flops, rel=0.01)


def test_half_precision_halves_the_frozen_weights_and_not_the_adapters(usual: SystemPlan) -> None:
    half = plan(with_components(dtype="bfloat16"))
    trained = 4 * usual.training("direct").trainable
    assert half.weights - trained == pytest.approx((usual.weights - trained) / 2, rel=0.01)
    assert half.training("direct").trainable == usual.training("direct").trainable


def test_four_bits_hold_less_than_half_precision() -> None:
    half, four = (plan(with_components(dtype="bfloat16", load_in_4bit=packed)) for packed in (False, True))
    assert four.weights < 0.6 * half.weights  # the embeddings stay as they are
    assert four.parameters == half.parameters
    assert rows(four)["train direct"].usage.flops == rows(half)["train direct"].usage.flops


def test_processes_share_the_pairs() -> None:
    one, two = (plan(processes=count) for count in (1, 2))
    assert two.training("direct").first.peak == pytest.approx(one.training("direct").first.peak / 2, rel=0.05)
    assert rows(two)["train direct"].usage.total_flops == pytest.approx(
        rows(one)["train direct"].usage.total_flops, rel=0.01
    )
    assert rows(two)["train direct"].gpus == 2
    assert rows(two)["sample"].gpus == 1


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size: 8 should be a multiple of the 3 processes"):
        list(plan(processes=3).rows())


def test_sharding_is_what_a_training_by_several_holds() -> None:
    whole_model, split = (plan(with_components(sharded=sharded), processes=2) for sharded in (False, True))
    assert split.training("direct").memory() < whole_model.training("direct").memory()
    alone = plan(with_components(sharded=True), processes=1)
    assert alone.training("direct").rehearsal.held["drafter"].share == plan().rehearsal.held["drafter"].whole


def test_prompts_of_a_data_set_that_is_not_here_are_assumed(usual: SystemPlan) -> None:
    longer = plan(assumed=400)
    assert not usual.has_prompts
    typical = [planned.rehearsal.prompt("refiner", planned.rehearsal.typical) for planned in (usual, longer)]
    assert typical[1] - typical[0] == pytest.approx(400 - 256, abs=2)
    assert usual.rehearsal.prompt("drafter", usual.rehearsal.longest) > 2000 // 4
    assert rows(longer)["train direct"].usage.total_flops > rows(usual)["train direct"].usage.total_flops


def test_prompts_that_are_here_are_counted(tmp_path: Path) -> None:
    lines = [
        f'{{"system": "", "question": "{"why " * (3 + row % 7)}{row}", "chosen": "a", "rejected": "b"}}'
        for row in range(150)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    here = plan(config(data={"source": str(tmp_path)}))
    assert here.has_prompts
    assert here.rehearsal.prompt("drafter", here.rehearsal.longest) < 50


def test_candidates_take_the_memory_of_one_batch() -> None:
    few, many = (plan(with_components(batch_size=size)).training("dataset").candidates() for size in (8, 16))
    assert many.peak == pytest.approx(2 * few.peak, rel=0.01)
    assert many.total_flops == pytest.approx(few.total_flops, rel=0.01)
    assert many.read < few.read  # the weights, once for every batch


def test_tokens_are_those_of_the_rows_that_the_components_see(usual: SystemPlan) -> None:
    drafter, refiner = (usual.rehearsal.prompt(name, usual.rehearsal.typical) + 64 for name in ("drafter", "refiner"))
    # Eight pairs an update, ten updates, two seeds.
    assert rows(usual)["train direct"].usage.tokens == pytest.approx(2 * 10 * 16 * (drafter + refiner), rel=0.01)
    # A draft's candidates are those of its prompt, and each is read with both answers.
    assert usual.training("dataset").first.tokens == pytest.approx(16 * drafter + 32 * refiner, rel=0.01)


def test_a_system_that_takes_minutes_is_left_out() -> None:
    qa = load_config(REPOSITORY / "config.yaml")["systems"]["two_stage_qa"]
    both = config()
    planned_rows, systems, not_planned = plan_systems(both | {"systems": both["systems"] | {"two_stage_qa": qa}})
    assert not_planned == ["two_stage_qa"]
    assert {row.system for row in planned_rows} == {system.name for system in systems} == {"chat"}


def test_a_model_whose_config_is_not_here_is_named() -> None:
    with pytest.raises(UserError, match=r"^systems\.chat\.components\.drafter\.model: .*'some/model'"):
        plan(with_components(model="some/model"))
    with pytest.raises(UserError, match=r"^systems\.chat\.scorer\.model: .*'some/judge'"):
        plan(config(scorer={"model": "some/judge"}))
