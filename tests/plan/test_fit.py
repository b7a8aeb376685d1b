"""What is planned of a training step is what torch measures of a real one, in arithmetic and in memory."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from sysdpo.base.config import load_config, merged, without_dropped
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.plan_fit import Jobs, alive_bytes, measured_flops, measured_peak
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.settings import DiffusionSettings, Estimator, LanguageModelSettings, MethodSettings
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.method.component import Component
from sysdpo.method.preferences import as_frame, make_pairs
from sysdpo.method.system import Node
from sysdpo.method.values import Completion
from sysdpo.plan.components import component_plans
from sysdpo.plan.language import Lengths
from sysdpo.plan.repeats import Repeats
from sysdpo.plan.rules import SystemPlan
from sysdpo.plan.training import Data, TrainingPlan

CLOSE = 0.15
REPOSITORY = Path(__file__).parents[2]
PAIRS = 8
PAINTER = "sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline"
INSTRUCTION = " ".join(tiny_models.WORDS * 4)


FEWER: dict[str, Any] = {
    "seeds": [0],
    "systems": {
        "progressive_images": None,
        "two_stage_qa": {
            "foundation": {name: {"examples": 4000, "steps": 150} for name in ("first", "second")},
            "training": {"steps": 2, "monitor_every": 0},
            "methods": dict.fromkeys(("only_first", "only_second", "separate", "single_sample")),
            "ablations": None,
        },
    },
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a shape in which, as in large models, no small thing weighs much."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = make_tokenizer([INSTRUCTION], template="<s> $A", max_length=128)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 6}
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=160, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plan_of(settings: Any, lengths: Lengths | None = None) -> TrainingPlan:
    """One update of a system of this model alone."""
    texts = SimpleNamespace(made_for=lambda name: None, typical=lambda name: lengths, longest=lambda name: lengths)
    parts = component_plans(SimpleNamespace(components={"model": settings}), {}, texts, "systems.one")  # type: ignore[arg-type]
    method = MethodSettings("only_model", {"model": 1e-3}, {"model": 0.0}, steps=1, batch_size=PAIRS)
    repeats = Repeats([Node("value", "model", ("text",))], {}, [{"text": None}])
    return TrainingPlan(parts, repeats, method, Data(prompts=PAIRS, samples=2, pairs=PAIRS))


def check(plan: TrainingPlan, make: Callable[[], Component], conditions: list[tuple[str]], values: list[Any]) -> None:
    """An update's arithmetic, and the memory it takes beside weights and gradients."""

    def update(component: Component) -> Callable[[], None]:
        for weight in component.trainable_parameters():
            weight.grad = torch.zeros_like(weight)
        draw = [0] * len(values)
        return lambda: component.log_probs(conditions, values, draw=draw).policy.sum().backward()

    assert plan.usage().total_flops == pytest.approx(measured_flops(update(make())), rel=CLOSE)
    run = update(make())
    before = alive_bytes(torch.Tensor)
    assert plan.activations() == pytest.approx(measured_peak(run) - before, rel=CLOSE)


@pytest.mark.parametrize(
    ("dtype", "recomputed", "prefix"),
    [("float32", False, INSTRUCTION), ("bfloat16", True, "")],
    ids=["shared prefix", "half precision, recomputed"],
)
def test_an_update_of_a_language_model(llama: Path, dtype: str, recomputed: bool, prefix: str) -> None:
    settings = LanguageModelSettings(
        {"r": 4, "target_modules": "all-linear"},
        template=f"{prefix} {{0}}",
        dtype=dtype,
        gradient_checkpointing=recomputed,
    )
    own, answer = 12, 20
    shared = 1 + len(prefix.split())  # the token that begins a text
    rng = np.random.default_rng(0)

    def make() -> LanguageModel:
        given = {name: value for name, value in vars(settings).items() if name != "model"}
        return LanguageModel.from_pretrained(llama, **given)

    texts = [" ".join(rng.choice(tiny_models.WORDS, own)) for _ in range(PAIRS)]
    tokens = rng.integers(4, 10, (2 * PAIRS, answer))
    lengths = Lengths(shared if prefix else 0, shared + own, answer)
    values = [Completion("", tuple(row)) for row in tokens.tolist()]
    planned = plan_of(replace(settings, model=str(llama)), lengths)
    check(planned, make, [(text,) for text in texts * 2], values)


@pytest.mark.parametrize(("kind", "recomputed"), [("xl", True), ("flow", False)])
def test_an_update_of_a_diffusion_model(pipeline_folders: dict[str, Path], kind: str, recomputed: bool) -> None:
    settings = DiffusionSettings(
        tiny_models.DIFFUSION_LORA,
        model=str(pipeline_folders[kind]),
        pipeline="diffusers:DiffusionPipeline" if kind == "xl" else PAINTER,
        sampling=tiny_models.SAMPLING,
        gradient_checkpointing=recomputed,
    )

    def make() -> DiffusionModel:
        given = vars(settings) | {"estimator": Estimator()}
        return DiffusionModel.from_pretrained(given.pop("model"), **given)

    pictures = [tiny_models.picture(number) for number in range(2 * PAIRS)]
    captions = [(" ".join(pair),) for pair in permutations(tiny_models.WORDS, 2)][: len(pictures)]
    check(plan_of(settings), make, captions, pictures)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """The default scale's second application at fewer updates: models that are taught a little, and taught answers."""
    config = without_dropped(merged(load_config(REPOSITORY / "config.yaml"), FEWER))
    folder = tmp_path_factory.mktemp("foundation")
    plan = SystemPlan(config, "two_stage_qa")
    for name, make in plan.benchmark.foundations.items():
        make(0, folder / name)
    prompts = plan.benchmark.prompts().query("split == 'train'")
    rng, rows = np.random.default_rng(0), []
    for asked in prompts.to_dict("records"):
        for number in range(plan.sampling.samples_per_prompt):
            values = {"text": asked["text"]}
            for node in plan.benchmark.nodes:
                made = plan.made[node.component]
                said = str(made.taught(rng, *(str(values[parent]) for parent in node.parents)))
                tokens = made.tokenizer(said, add_special_tokens=False)["input_ids"]
                values[node.name] = Completion(said, (*tokens, made.tokenizer.eos_token_id))
            rows.append((asked["prompt_id"], number, values))
    columns = {name: [values[name] for _, _, values in rows] for name in rows[0][2]}
    frame = as_frame([row[0] for row in rows], [row[1] for row in rows], columns)
    pairs = make_pairs(plan.benchmark.score(prompts, frame, folder))
    return Jobs(config, "two_stage_qa", folder, (frame, pairs))


@pytest.mark.parametrize("method", ["direct", "sampling"])
def test_a_whole_training_of_the_default_scale(jobs: Jobs, method: str) -> None:
    rule = f"train {method}"
    assert {row["quantity"]: row["ratio"] for row in jobs.compared(rule)} == {
        "flops": pytest.approx(1, abs=CLOSE),
        "peak_bytes": pytest.approx(1, abs=0.2),  # candidates fill a batch less than the plan takes them to
    }


def test_policy_and_reference_are_one_copy_in_memory(jobs: Jobs) -> None:
    found = jobs.copies("direct")
    assert found["measured"] == pytest.approx(found["planned"], rel=0.01)
    assert jobs.rows["train direct"].reference == 0
