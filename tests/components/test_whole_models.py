"""A language model is loaded with every weight of its checkpoint, and an adapter in its base, or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_chat
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import completion
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from sysdpo.base.errors import UserError
from sysdpo.components.language import LanguageModel
from sysdpo.components.loading import load_tokenizer, load_whole

LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
ALL_LINEAR = {"r": 2, "target_modules": "all-linear"}
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, and an output layer that is not tied."""
    return tiny_chat.save_qwen2(tmp_path_factory.mktemp("qwen"))


def changed(folder: Path, to: Path, change: Callable[[Weights], Weights]) -> Path:
    shutil.copytree(folder, to, dirs_exist_ok=True)
    save_file(change(load_file(to / "model.safetensors")), to / "model.safetensors", metadata={"format": "pt"})
    return to


def without(*parts: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: weight for key, weight in weights.items() if not any(part in key for part in parts)}


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + key: weight for key, weight in weights.items()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            prefixed("_orig_mod."),
            r"it lacks 27 weights, 'lm_head.weight' the first; it has besides 27 weights, '_orig_mod",
        ),
        (prefixed("module."), r"it lacks 27 weights, .* it has besides 27 weights, 'module.lm_head.weight' the first"),
        (prefixed("base_model.model."), r"it lacks 27 weights, .* it has besides 27 weights, 'base_model.model"),
        (without("lm_head"), r"it lacks 1 weights, 'lm_head.weight' the first$"),
        (without("layers.1.mlp"), r"it lacks 3 weights, 'model.layers.1.mlp.down_proj.weight' the first$"),
        (
            lambda weights: weights | {"model.layers.2.mlp.up_proj.weight": torch.zeros(48, 32)},
            r"it has besides 1 weights, 'model.layers.2.mlp.up_proj.weight' the first$",
        ),
        (
            lambda weights: weights | {"model.norm.weight": torch.ones(16)},
            r"it has in another shape 1 weights, 'model.norm.weight' the first$",
        ),
    ],
)
def test_a_checkpoint_that_is_not_the_whole_model_is_refused(qwen: Path, tmp_path: Path, change, told: str) -> None:
    folder = changed(qwen, tmp_path, change)
    with pytest.raises(UserError, match=rf"model: '{folder}' should hold a whole Qwen2ForCausalLM; {told}"):
        LanguageModel.from_pretrained(folder, lora=LORA)


def test_what_belongs_to_no_part_of_the_model_may_lie_beside_it(qwen: Path, tmp_path: Path) -> None:
    """The value head that reinforcement learning leaves."""
    folder = changed(qwen, tmp_path, lambda weights: weights | {"v_head.summary.weight": torch.zeros(1, 32)})
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        ours = LanguageModel.from_pretrained(folder, lora=LORA).model(input_ids=ids).logits
        assert torch.equal(ours, AutoModelForCausalLM.from_pretrained(qwen)(input_ids=ids).logits)


def test_a_tied_output_layer_is_not_missing_and_its_table_is(tmp_path: Path) -> None:
    tokenizer = tiny_chat.qwen2_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=4, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "tied")
    tokenizer.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    LanguageModel.from_pretrained(tmp_path / "tied", lora=ALL_LINEAR)
    # An old checkpoint has a buffer of each layer, too.
    old = changed(
        tmp_path / "tied", tmp_path / "old", lambda w: w | {"transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64)}
    )
    LanguageModel.from_pretrained(old, lora=ALL_LINEAR)
    torn = changed(tmp_path / "tied", tmp_path / "torn", without("wte"))
    with pytest.raises(
        UserError, match=r"whole GPT2LMHeadModel; it lacks \d weights, '(lm_head|transformer.wte).weight'"
    ):
        LanguageModel.from_pretrained(torn, lora=ALL_LINEAR)


def test_what_is_not_asked_for_is_not_loaded_either(qwen: Path) -> None:
    """The same for any class of transformers: a text encoder, a judge."""
    load = AutoModelForCausalLM.from_pretrained
    assert load_whole(load, qwen, dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(UserError, match=r"text_encoder: 'nowhere' cannot be loaded"):
        load_whole(load, "nowhere", what="text_encoder")


# --- adapters -------------------------------------------------------------------------------------------------------


def save_adapter(base: Path, folder: Path, **more) -> PeftModel:
    """Supervised fine-tuning's: every LoRA of it moved."""
    config = LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **more})
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.2 * torch.randn(weight.shape, generator=generator)
    adapted.save_pretrained(folder)
    return adapted.eval()


@torch.no_grad()
def logits(model) -> Tensor:
    return model(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits


@pytest.mark.parametrize(
    "more", [{}, {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]}, {"use_dora": True}]
)
def test_an_adapter_is_merged_into_its_base_and_a_new_one_starts_there(qwen: Path, tmp_path: Path, more: dict) -> None:
    tuned = save_adapter(qwen, tmp_path / "sft", **more)
    for lora in (LORA, {"r": 4, "target_modules": "all-linear"}):  # as little as and as much as the adapter has
        language = LanguageModel.from_pretrained(tmp_path / "sft", lora=lora)
        torch.testing.assert_close(logits(language.model), logits(tuned), rtol=0, atol=1e-4)
        assert list(language.model.peft_config) == ["default"]
        value = [completion(language, "A cat")]
        policy, reference = language.log_probs([("What is a cat?",)], value, draw=[0])
        assert torch.equal(policy, reference)
        assert not any("lora" in name for name, _ in language.model.get_base_model().named_buffers())


def test_an_adapter_trained_on_top_names_the_adapter_as_its_base(qwen: Path, tmp_path: Path) -> None:
    save_adapter(qwen, tmp_path / "sft")
    LanguageModel.from_pretrained(tmp_path / "sft", lora=LORA).save(tmp_path / "dpo")
    described = json.loads((tmp_path / "dpo" / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(tmp_path / "sft")
    # And so one adapter may lie on another, as many as there are.
    twice = LanguageModel.from_pretrained(tmp_path / "dpo", lora=LORA)
    once = LanguageModel.from_pretrained(tmp_path / "sft", lora=LORA)
    assert torch.equal(logits(twice.model), logits(once.model))


def test_the_tokenizer_is_the_adapter_s_own_or_its_base_s(qwen: Path, tmp_path: Path) -> None:
    save_adapter(qwen, tmp_path / "sft")
    assert load_tokenizer(tmp_path / "sft").chat_template == tiny_chat.CHATML
    own = AutoTokenizer.from_pretrained(qwen)
    own.chat_template = tiny_chat.WITHOUT_SYSTEM
    own.save_pretrained(tmp_path / "sft")
    assert (
        LanguageModel.from_pretrained(tmp_path / "sft", lora=LORA).tokenizer.chat_template == tiny_chat.WITHOUT_SYSTEM
    )


def test_an_adapter_of_another_model_is_refused(qwen: Path, tmp_path: Path) -> None:
    save_adapter(qwen, tmp_path / "sft")
    weights = tmp_path / "sft" / "adapter_model.safetensors"
    save_file({key.replace("layers.1", "layers.7"): weight for key, weight in load_file(weights).items()}, weights)
    with pytest.raises(
        UserError, match=r"should be an adapter of '.*'; 28 weights are in one of the two alone, 'base_mod"
    ):
        LanguageModel.from_pretrained(tmp_path / "sft", lora=LORA)


def test_a_smaller_adapter_is_refused(qwen: Path, tmp_path: Path) -> None:
    save_adapter(qwen, tmp_path / "sft")
    described = json.loads((tmp_path / "sft" / "adapter_config.json").read_text())
    (tmp_path / "sft" / "adapter_config.json").write_text(json.dumps(described | {"r": 3}))
    with pytest.raises(UserError, match=r"model: '.*sft' cannot be loaded; .* that fits \(RuntimeError: Error\(s\) in"):
        LanguageModel.from_pretrained(tmp_path / "sft", lora=LORA)


@pytest.mark.parametrize("base", [None, "", "itself", "nowhere"])
def test_an_adapter_without_its_base_is_refused(qwen: Path, tmp_path: Path, base: str | None) -> None:
    save_adapter(qwen, tmp_path / "sft")
    named = str(tmp_path / "sft") if base == "itself" else base
    described = json.loads((tmp_path / "sft" / "adapter_config.json").read_text())
    (tmp_path / "sft" / "adapter_config.json").write_text(json.dumps(described | {"base_model_name_or_path": named}))
    expected = r"'nowhere' cannot be loaded" if base == "nowhere" else r"holds an adapter, whose adapter_config.json"
    with pytest.raises(UserError, match=rf"model: .*{expected}"):
        LanguageModel.from_pretrained(tmp_path / "sft", lora=LORA)


def test_an_adapter_in_four_bits_is_refused(qwen: Path, tmp_path: Path) -> None:
    save_adapter(qwen, tmp_path / "sft")
    with pytest.raises(UserError, match=r"load_in_4bit: true should be false for '.*sft', which is an adapter"):
        LanguageModel.from_pretrained(tmp_path / "sft", lora=LORA, load_in_4bit=True)


def tiny_gpt2(folder: Path, layers: int) -> dict[str, Tensor]:
    """The weights of a GPT-2 of so many layers, saved as the base model by itself, whose names have no prefix."""
    sizes = {"n_embd": 8, "n_head": 2, "vocab_size": 16, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 1}
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers, **sizes))
    model.transformer.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_surplus_layers_of_a_base_model_are_no_secret(tmp_path: Path) -> None:
    weights = tiny_gpt2(tmp_path, 3)
    config = json.loads((tmp_path / "config.json").read_text()) | {"n_layer": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"it has besides 22 weights, 'h.1.attn.c_attn.weight' the first"):
        load_whole(AutoModelForCausalLM.from_pretrained, tmp_path)


def test_masks_that_older_versions_saved_are_no_surplus(tmp_path: Path) -> None:
    masks = {"h.0.attn.masked_bias": torch.tensor(-1e4), "h.0.attn.bias": torch.ones(1, 1, 16, 16)}
    save_file(tiny_gpt2(tmp_path, 1) | masks, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load_whole(AutoModelForCausalLM.from_pretrained, tmp_path)
