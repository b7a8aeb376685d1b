"""Networks without weights have as many as the models they stand for."""

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from transformers import AutoModelForCausalLM, ViTConfig, ViTForImageClassification

from sysdpo.applications.images.pipeline import SmallStableDiffusion3Pipeline
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.base.errors import UserError
from sysdpo.plan.models import (
    config_folder,
    language_network,
    parameters,
    pipeline_networks,
    scoring_network,
    weight_bytes,
)

# Of the released checkpoints.
LANGUAGE = {
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "Qwen/Qwen1.5-1.8B-Chat": 1_836_828_672,
    "Qwen/Qwen1.5-0.5B-Chat": 463_987_712,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
}
JUDGES = {
    "OpenAssistant/reward-model-deberta-v3-large-v2": 435_062_785,
    "openai/clip-vit-large-patch14": 427_616_513,
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": 986_109_441,
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": 151_277_313,
    "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2": 7_504_928_768,
}
PIPELINES = {
    "stabilityai/stable-diffusion-xl-base-1.0": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {
        "unet": 859_520_964,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "safety_checker": 303_981_588,
    },
}


@pytest.mark.parametrize("model", LANGUAGE)
def test_shipped_configs_of_language_models(model: str) -> None:
    network = language_network(config_folder(model, "model"), "bfloat16")
    assert parameters(network) == LANGUAGE[model]
    assert {weight.device.type for weight in network.parameters()} == {"meta"}
    assert weight_bytes(network) == pytest.approx(2 * LANGUAGE[model], rel=1e-4)


@pytest.mark.parametrize("model", JUDGES)
def test_shipped_configs_of_judges(model: str) -> None:
    assert parameters(scoring_network(config_folder(model, "model"), "float32")) == JUDGES[model]


@pytest.mark.parametrize("model", PIPELINES)
def test_shipped_configs_of_pipelines(model: str) -> None:
    pipeline = pipeline_networks(config_folder(model, "model"), "float16")
    assert {name: parameters(network) for name, network in pipeline.networks.items()} == PIPELINES[model]
    assert pipeline.prompt_tokens == 77
    assert pipeline.pixels_per_latent == 8


def test_four_bits_hold_the_linear_layers_and_leave_the_rest() -> None:
    network = language_network(config_folder("Qwen/Qwen2.5-1.5B-Instruct", "model"), "bfloat16")
    linear = sum(
        module.weight.numel()
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    )
    saved = weight_bytes(network) - weight_bytes(network, four_bit=True)
    assert saved == pytest.approx(linear * (2 - 0.5625))


def test_a_local_language_model_is_read_from_its_folder(language_folder: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(language_folder)
    assert (
        parameters(language_network(config_folder(str(language_folder), "model"), "float32")) == loaded.num_parameters()
    )


@pytest.mark.parametrize("kind", ["epsilon", "xl", "flow"])
def test_a_local_pipeline_is_read_from_its_folder(kind: str, pipeline_folders: dict[str, Path]) -> None:
    loader = SmallStableDiffusion3Pipeline if kind == "flow" else DiffusionPipeline
    loaded = loader.from_pretrained(pipeline_folders[kind]).components
    planned = pipeline_networks(config_folder(str(pipeline_folders[kind]), "model"), "float32")
    networks = {name: part for name, part in loaded.items() if isinstance(part, torch.nn.Module)}
    assert {name: parameters(part) for name, part in planned.networks.items()} == {
        name: parameters(part) for name, part in networks.items()
    }


def test_local_regressors_of_both_kinds_are_read_from_their_folders(tmp_path: Path) -> None:
    ours = AttributeRegressor(["anger", "size"], width=8)
    ours.save(tmp_path / "ours")
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    theirs = ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=3, **shape))
    theirs.save_pretrained(tmp_path / "theirs")
    for name, model in (("ours", ours), ("theirs", theirs)):
        assert parameters(scoring_network(config_folder(str(tmp_path / name), "model"), "float32")) == parameters(model)


def test_an_unknown_hub_id_is_one_sentence_on_how_to_give_it() -> None:
    with pytest.raises(UserError, match=r"^components\.writer\.model: .*'some/model'.*local folder.*config\.json"):
        config_folder("some/model", "components.writer.model")


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(UserError, match=r"model_index\.json"):
        pipeline_networks(tmp_path, "float32")
