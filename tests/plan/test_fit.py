"""What is planned is what torch measures of real computations and real jobs, in arithmetic and in memory."""

import itertools
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chat
import tiny_hub
import tiny_models
import tiny_pictures
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.plan_fit import Jobs, alive_bytes, measured_flops, measured_peak
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.components.meter import Usage
from sysdpo.components.settings import DiffusionSettings, Estimator, LanguageModelSettings
from sysdpo.components.weightless import Held, weightless_diffusion_model, weightless_language_model
from sysdpo.method.component import Component
from sysdpo.method.config import load_config
from sysdpo.method.scales import merged, without_dropped
from sysdpo.method.settings import MethodSettings
from sysdpo.method.system import Node, System
from sysdpo.method.values import Completion
from sysdpo.plan import texts as stand_ins
from sysdpo.plan.rehearsal import Rehearsal

CLOSE = 0.15
REPOSITORY = Path(__file__).parents[2]
SCALES = (REPOSITORY / "config.yaml", REPOSITORY / "workflow/scales/paper.yaml")
PAIRS, ROWS, OWN, ANSWER = 8, 16, 12, 20
PAINTER = "sysdpo.applications.images.pipeline:SmallStableDiffusion3Pipeline"
INSTRUCTION = " ".join(tiny_models.WORDS * 4)
UPDATE = MethodSettings(objective="only_model", learning_rate={"model": 1e-3}, chosen_weight={"model": 0.0})


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the tokenizer below knows."""
    monkeypatch.setattr(stand_ins, "_numbers", itertools.count())


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a shape in which, as in large models, no small thing weighs much; its tokenizer knows numbers."""
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = make_tokenizer([INSTRUCTION, *map(str, range(10_000))], template="<s> $A", max_length=128)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 6}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=160, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rehearsal_of(component: Any) -> Rehearsal:
    """A system of this model alone."""
    system = System(("text",), [Node("value", "model", ("text",))], {"model": component})
    inputs = {"text": " ".join(["0", *["cat"] * (OWN - 1)])}
    return Rehearsal(system, (inputs, inputs), {"model": Held(component)})


def check(planned: Usage, run: Callable[[], Any]) -> None:
    """An operation's arithmetic, and the memory it takes beside what is alive before."""
    assert planned.total_flops == pytest.approx(measured_flops(run), rel=CLOSE)
    before = alive_bytes(torch.Tensor)
    assert planned.peak == pytest.approx(measured_peak(run) - before, rel=CLOSE)


def update(component: Component, conditions: list[tuple[str]], values: list[Any]) -> Callable[[], None]:
    for weight in component.trainable_parameters():
        weight.grad = torch.zeros_like(weight)
    draw = [0] * len(values)

    def run() -> None:
        for memory in component.memories.values():  # type: ignore[attr-defined]
            memory.clear()
        component.log_probs(conditions, values, draw=draw).policy.sum().backward()

    return run


def texts(count: int) -> list[tuple[str]]:
    """Distinct from their first words on."""
    rng = np.random.default_rng(0)
    return [(" ".join([str(number), *rng.choice(tiny_models.WORDS, OWN - 1)]),) for number in range(count)]


def language_settings(llama: Path, **settings: Any) -> dict[str, Any]:
    return {"lora": {"r": 4, "target_modules": "all-linear"}, "max_new_tokens": ANSWER, **settings}


@pytest.mark.parametrize(
    ("dtype", "recomputed", "prefix"),
    [("float32", False, INSTRUCTION), ("bfloat16", True, "")],
    ids=["shared prefix", "half precision, recomputed"],
)
def test_an_update_of_a_language_model(llama: Path, dtype: str, recomputed: bool, prefix: str) -> None:
    more = {"template": f"{prefix} {{0}}", "dtype": dtype, "gradient_checkpointing": recomputed}
    settings = language_settings(llama, **more)
    rehearsal = rehearsal_of(weightless_language_model(LanguageModelSettings(**settings), llama))
    tokens = np.random.default_rng(0).integers(4, 10, (2 * PAIRS, ANSWER))
    values = [Completion("", tuple(row)) for row in tokens.tolist()]
    first, _ = rehearsal.update(UPDATE, PAIRS)
    assert first.tokens == 2 * PAIRS * (len(f"<s> {prefix}".split()) + OWN + ANSWER)
    run = update(LanguageModel.from_pretrained(llama, **settings), texts(PAIRS) * 2, values)
    check(first, run)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_completions_of_a_language_model(llama: Path, dtype: str) -> None:
    settings = language_settings(llama, template=INSTRUCTION + " {0}", dtype=dtype)
    planned = rehearsal_of(weightless_language_model(LanguageModelSettings(**settings), llama))
    model = LanguageModel.from_pretrained(llama, **settings)
    drawn = model.sample(texts(ROWS), seeds=range(ROWS))
    assert max(len(value.tokens) for value in drawn) == ANSWER
    usage = planned.sampling(planned.system.nodes[0], ROWS)
    check(usage, lambda: model.sample(texts(ROWS), seeds=range(ROWS)))


def diffusion_settings(kind: str, **more: Any) -> dict[str, Any]:
    pipeline = {"pipeline": "diffusers:DiffusionPipeline" if kind == "xl" else PAINTER}
    return {"lora": tiny_models.DIFFUSION_LORA, "sampling": tiny_models.SAMPLING, **pipeline, **more}


@pytest.mark.parametrize(("kind", "recomputed"), [("xl", True), ("flow", False)])
def test_an_update_of_a_diffusion_model(pipeline_folders: dict[str, Path], kind: str, recomputed: bool) -> None:
    settings, folder = diffusion_settings(kind, gradient_checkpointing=recomputed), pipeline_folders[kind]
    planned = rehearsal_of(weightless_diffusion_model(DiffusionSettings(**settings), folder))
    first, again = planned.update(UPDATE, PAIRS)
    pictures = [tiny_models.picture(number) for number in range(2 * PAIRS)]
    model = DiffusionModel.from_pretrained(folder, **settings, estimator=Estimator())
    check(first, update(model, texts(PAIRS) * 2, pictures))
    assert again.total_flops < first.total_flops  # latents are known by then


@pytest.mark.parametrize("guidance", [0.0, 5.0])
def test_pictures_of_a_diffusion_model(tmp_path: Path, guidance: float) -> None:
    folder = tiny_pictures.save_stable_diffusion_xl(tmp_path / "xl")
    sampling = {"num_inference_steps": 2, "guidance_scale": guidance, "height": 64, "width": 64}
    settings = {"lora": tiny_models.DIFFUSION_LORA, "sampling": sampling}
    planned = rehearsal_of(weightless_diffusion_model(DiffusionSettings(**settings), folder))
    model = DiffusionModel.from_pretrained(folder, **settings)
    usage = planned.sampling(planned.system.nodes[0], PAIRS)
    assert usage.images == PAIRS
    check(usage, lambda: model.sample(texts(PAIRS), seeds=range(PAIRS)))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """The paper's second application with tiny models and a tiny data set, which the workflow's own code trains."""
    folder = tmp_path_factory.mktemp("hub")
    scale = tiny_hub.save_hub(folder, deep=True)
    pairs = tiny_chat.orca_pairs()
    alike = pairs.assign(
        system=pairs["system"].max()
    )  # as long, or the usual one would not be what all take on average
    tiny_chat.save_orca_pairs(folder / "orca", pairs=alike)
    config = without_dropped(reduce(merged, map(load_config, (*SCALES, scale))))
    return Jobs(config, "chat_refinement")


@pytest.mark.parametrize("rule", ["train direct", "train sampling_scored", "evaluate direct"])
def test_a_whole_job(jobs: Jobs, rule: str) -> None:
    ratios = {row["quantity"]: row["ratio"] for row in jobs.compared(rule)}
    assert ratios["peak_bytes"] == pytest.approx(1, abs=CLOSE)
    assert ratios["flops"] == pytest.approx(1, abs=CLOSE)


def test_policy_and_reference_are_one_copy_in_memory(jobs: Jobs) -> None:
    copies = jobs.copies("direct")
    assert copies["measured"] == pytest.approx(copies["planned"], rel=0.01)
    assert jobs.rows["train direct"].reference_bytes == 0
