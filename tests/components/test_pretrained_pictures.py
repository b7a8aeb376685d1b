"""Components with the classes of the paper's scale: Llama 3 with its chat template, Stable Diffusion XL and 1.5."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_pictures
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from tiny_models import LANGUAGE_LORA, completion, perturb, picture
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from sysdpo.base.errors import UserError
from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.encoders import FrozenEncoders
from sysdpo.components.language import LanguageModel

LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_k", "to_v", "to_out.0"]}
SAMPLING = {"num_inference_steps": 2, "guidance_scale": 5.0, "height": 64, "width": 64}
REQUESTS = [("Draw a cat getting progressively angrier.",), ("Draw an owl.",), ("Draw a dog and a horse.",)]
CAPTIONS = [("A calm cat sits on a mat.",), ("A cross cat.",), ("A calm cat sits on a mat.",)]
PICTURES = [picture(seed, side=64) for seed in range(3)]
DRAWS = [101, 102, 103]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    return {
        "writer": tiny_pictures.save_llama_3(root / "writer"),
        "xl": tiny_pictures.save_stable_diffusion_xl(root / "xl"),
        "1.5": tiny_pictures.save_stable_diffusion_1_5(root / "1.5"),
    }


@pytest.fixture
def writer(folders: dict[str, Path]) -> Callable[..., LanguageModel]:
    """A function from settings to a fresh writer; all are equal."""

    def make(**settings: Any) -> LanguageModel:
        torch.manual_seed(0)
        return LanguageModel.from_pretrained(folders["writer"], lora=LANGUAGE_LORA, max_new_tokens=6, **settings)

    return make


@pytest.fixture
def painter(folders: dict[str, Path]) -> Callable[..., DiffusionModel]:
    """A function from settings to a fresh painter, XL unless told otherwise; all are equal."""

    def make(kind: str = "xl", **settings: Any) -> DiffusionModel:
        torch.manual_seed(0)
        return DiffusionModel.from_pretrained(folders[kind], lora=LORA, sampling=SAMPLING, **settings)

    return make


def seen_by(network: torch.nn.Module) -> list[dict[str, Any]]:
    """A list that the keywords of every call of the network are added to."""
    calls: list[dict[str, Any]] = []
    network.register_forward_pre_hook(lambda module, arguments, keywords: calls.append(keywords), with_kwargs=True)
    return calls


def written(component: LanguageModel) -> list:
    return [completion(component, text) for text in ("1. A calm cat.", "", "2. A cross cat arches its back.")]


# Llama 3


def test_the_system_prompt_and_the_chat_template_reach_the_model(writer) -> None:
    component = writer(system_prompt="Write of: {0}", template="Please. {0}")
    assert type(component.tokenizer) is PreTrainedTokenizerFast
    assert type(component.model.get_base_model()) is LlamaForCausalLM
    calls = seen_by(component.model.get_base_model())
    with torch.no_grad():
        component._completion_log_probs([component.encode_prompt(("Cats.",))], [completion(component, "Meow.")])
    read = torch.cat([call["input_ids"][0] for call in calls])
    assert component.tokenizer.decode(read) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nWrite of: Cats.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nPlease. Cats.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nMeow.<|eot_id|>"
    )
    assert (read == component.tokenizer.bos_token_id).sum() == 1
    # Each mark is one token, not the letters that it is written with.
    assert (read == component.tokenizer.convert_tokens_to_ids("<|start_header_id|>")).sum() == 3


def test_an_empty_system_prompt_is_none(writer) -> None:
    with_none, with_empty = (writer(system_prompt=prompt).encode_prompt(("Cats.",)) for prompt in (None, ""))
    assert with_none == with_empty
    assert "system" not in writer().tokenizer.decode(with_none)


def test_both_of_its_end_tokens_end_an_answer(writer) -> None:
    component = writer()
    ends = component.tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert component.decoder(REQUESTS[:1]).ends == set(ends)
    for end in ends:
        assert component._completion([300, end, 300], ends).tokens == (300, end)


def test_the_sampling_settings_it_ships_with_bend_nothing(writer) -> None:
    assert writer().model.generation_config.top_p == 0.9
    component = writer(temperature=1.0)
    sampled = component.sample(REQUESTS, seeds=[1, 2, 3])
    component.model.generation_config.top_p = component.model.generation_config.temperature = 1.0
    assert sampled == component.sample(REQUESTS, seeds=[1, 2, 3])


# Stable Diffusion


def both_encoders(pipeline: StableDiffusionXLPipeline, text: str) -> tuple[Tensor, Tensor]:
    """What SDXL's denoiser reads of a text: both encoders' last layers but one, side by side, and the second's pooled
    projection.
    """
    layers = []
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        tokens = tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        with torch.no_grad():
            output = encoder(tokens["input_ids"], output_hidden_states=True)
        layers.append(output.hidden_states[-2])
    return torch.cat(layers, -1), output.text_embeds


def test_sdxl_s_denoiser_reads_both_text_encoders_and_the_size(painter) -> None:
    component = painter()
    assert type(component.pipeline) is StableDiffusionXLPipeline
    calls = seen_by(component.denoiser)
    component.log_probs(CAPTIONS, PICTURES, draw=DRAWS)
    for call in calls:
        for row, (caption,) in enumerate(CAPTIONS):
            tokens, pooled = both_encoders(component.pipeline, caption)
            torch.testing.assert_close(call["encoder_hidden_states"][row], tokens[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(call["added_cond_kwargs"]["text_embeds"][row], pooled[0], rtol=1e-4, atol=1e-5)
        # The original size, the crop's corner, the target size.
        assert call["added_cond_kwargs"]["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 3


def test_training_shows_sdxl_s_denoiser_what_drawing_does(painter) -> None:
    component = painter()
    calls = seen_by(component.denoiser)
    component.sample(CAPTIONS[:1], seeds=[0])
    drawing = {name: part[-1] for name, part in calls[0]["added_cond_kwargs"].items()}  # the guided half comes last
    tokens = calls[0]["encoder_hidden_states"][-1]
    calls.clear()
    component.log_probs(CAPTIONS[:1], PICTURES[:1], draw=DRAWS[:1])
    training = calls[-1]["added_cond_kwargs"]
    torch.testing.assert_close(training["time_ids"][0].float(), drawing["time_ids"].float())
    torch.testing.assert_close(training["text_embeds"][0], drawing["text_embeds"])
    torch.testing.assert_close(calls[-1]["encoder_hidden_states"][0], tokens)


@pytest.mark.parametrize("kind", ["xl", "1.5"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_untouched_painter_is_its_reference_and_a_moved_one_is_not(kind: str, dtype: str, painter) -> None:
    component = painter(kind, dtype=dtype)
    policy, reference = component.log_probs(CAPTIONS, PICTURES, draw=DRAWS)
    assert torch.equal(policy, reference)
    assert policy.dtype == torch.float32
    perturb(component)
    policy, reference = component.log_probs(CAPTIONS, PICTURES, draw=DRAWS)
    assert torch.isfinite(policy).all()
    assert ((policy - reference).abs() > 1e-6).all()


def test_every_part_of_the_condition_matters_to_sdxl(painter) -> None:
    component = painter()
    before, _ = component.log_probs(CAPTIONS, PICTURES, draw=DRAWS)
    for encoder in (component.pipeline.text_encoder, component.pipeline.text_encoder_2):
        with torch.no_grad():
            encoder.get_input_embeddings().weight += 1.0
        component.encoders = FrozenEncoders(component.pipeline, batch_size=8)
        after, _ = component.log_probs(CAPTIONS, PICTURES, draw=DRAWS)
        assert (after != before).all()
        before = after
    other_size = [image.resize((64, 32)) for image in PICTURES]
    calls = seen_by(component.denoiser)
    component.log_probs(CAPTIONS, other_size, draw=DRAWS)
    assert calls[0]["added_cond_kwargs"]["time_ids"][0].tolist() == [32, 64, 0, 0, 32, 64]


def test_the_autoencoder_that_overflows_encodes_in_float32_and_keeps_its_format(painter) -> None:
    component = painter(dtype="bfloat16")
    assert component.pipeline.vae.config.force_upcast
    seen = []
    component.pipeline.vae.encoder.register_forward_pre_hook(
        lambda module, arguments: seen.append((arguments[0].dtype, next(module.parameters()).dtype))
    )
    component.log_probs(CAPTIONS, PICTURES, draw=DRAWS)
    assert seen == [(torch.float32, torch.float32)]  # once: latents are kept
    assert {weight.dtype for weight in component.pipeline.vae.parameters()} == {torch.bfloat16}


def test_stable_diffusion_1_5_draws_with_its_checker_at_hand(painter) -> None:
    component = painter("1.5")
    assert type(component.pipeline) is StableDiffusionPipeline
    images = component.sample(CAPTIONS, seeds=[1, 2, 3])
    assert [image.size for image in images] == [(64, 64)] * 3
    assert all(image.getextrema() != ((0, 0),) * 3 for image in images)


# What both have in common


@pytest.mark.parametrize("kind", ["writer", "painter"])
def test_checkpointing_changes_no_loss_and_no_gradient(kind: str, request: pytest.FixtureRequest) -> None:
    found = []
    for checkpointed in (False, True):
        component = request.getfixturevalue(kind)(gradient_checkpointing=checkpointed)
        perturb(component, size=0.1)
        network = component.model if kind == "writer" else component.denoiser
        inner = ("layers.0.self_attn", "mid_block.attentions.0.transformer_blocks.0")
        block = next(part for name, part in network.named_modules() if name.endswith(inner))
        calls: list[bool] = []
        block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(torch.is_grad_enabled()))
        conditions, values = (REQUESTS, written(component)) if kind == "writer" else (CAPTIONS, PICTURES)
        policy, reference = component.log_probs(conditions, values, draw=DRAWS)
        loss = -torch.nn.functional.logsigmoid(policy - reference).sum()
        forward = sum(calls)
        loss.backward()
        assert (sum(calls) > forward) is checkpointed  # run again in the backward pass
        found.append((loss.detach(), policy.detach(), [weight.grad for weight in component.trainable_parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().max() > 0 for gradient in found[0][2])


@pytest.mark.parametrize("kind", ["writer", "painter"])
def test_adapters_stay_in_float32_where_the_frozen_weights_are_bfloat16(
    kind: str, request: pytest.FixtureRequest
) -> None:
    component = request.getfixturevalue(kind)(dtype="bfloat16")
    network = component.model if kind == "writer" else component.denoiser
    trained = {id(weight) for weight in component.trainable_parameters()}
    formats = {(id(weight) in trained, weight.dtype) for weight in network.parameters()}
    assert formats == {(True, torch.float32), (False, torch.bfloat16)}
    conditions, values = (REQUESTS, written(component)) if kind == "writer" else (CAPTIONS, PICTURES)
    policy, reference = component.log_probs(conditions, values, draw=DRAWS)
    assert torch.equal(policy, reference)
    assert policy.dtype == torch.float32
    perturb(component, size=0.1)
    (-component.log_probs(conditions, values, draw=DRAWS).policy.sum()).backward()
    for weight in component.trainable_parameters():
        assert weight.grad.dtype == torch.float32
        assert torch.isfinite(weight.grad).all()
        before = weight.detach().clone()
        with torch.no_grad():
            weight += 1e-6 * weight.abs().clamp_min(1e-2)  # bfloat16 would round it away
        assert (weight != before).any()


@pytest.mark.parametrize("kind", ["writer", "painter"])
def test_what_was_trained_in_half_precision_is_saved_and_loaded(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    make = request.getfixturevalue(kind)
    trained, fresh = (make(dtype="bfloat16", gradient_checkpointing=True) for _ in range(2))
    perturb(trained, size=0.1)
    trained.save(tmp_path)
    fresh.load(tmp_path)
    assert {weight.dtype for weight in fresh.trainable_parameters()} == {torch.float32}
    conditions, values = (REQUESTS, written(trained)) if kind == "writer" else (CAPTIONS, PICTURES)
    expected, found = (each.log_probs(conditions, values, draw=DRAWS) for each in (trained, fresh))
    torch.testing.assert_close(found.policy, expected.policy)
    assert (found.policy != found.reference).all()


def test_weight_files_of_a_variant_are_taken_where_it_is_named(tmp_path: Path, painter) -> None:
    tiny_pictures.save_stable_diffusion_xl(tmp_path, variant="fp16")
    component = DiffusionModel.from_pretrained(tmp_path, variant="fp16", lora=LORA)
    full = painter()
    for name, weight in full.denoiser.named_parameters():
        if ".default." not in name:
            torch.testing.assert_close(component.denoiser.get_parameter(name), weight, rtol=1e-3, atol=1e-3)
    with pytest.raises(UserError, match="cannot be loaded"):
        DiffusionModel.from_pretrained(tmp_path, lora=LORA)


def test_the_revision_is_asked_for(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for cls in (AutoModelForCausalLM, AutoTokenizer):

        def load(*arguments, load=cls.from_pretrained, **settings):
            asked.append((settings["revision"], settings.get("variant")))
            return load(*arguments, **settings)

        monkeypatch.setattr(cls, "from_pretrained", load)
    LanguageModel.from_pretrained(folders["writer"], revision="5f0b02c", lora=LANGUAGE_LORA)

    def download(name: str, revision: str, variant: str) -> Path:
        asked.append((revision, variant))
        return folders[name.removeprefix("hub/")]

    monkeypatch.setattr(DiffusionPipeline, "download", download)
    DiffusionModel.from_pretrained("hub/xl", revision="462165b", lora=LORA)
    assert asked == [("5f0b02c", None), ("5f0b02c", None), ("462165b", None)]
