"""A pipeline is loaded whole and trained as what it draws with, or refused in one sentence when it is loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import tiny_models
import torch
import transformers
from safetensors.torch import load_file, save_file

from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.errors import UserError
from sysdpo.components.diffusion import DiffusionModel

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"


def load(folder: Path, **settings: object) -> DiffusionModel:
    return DiffusionModel.from_pretrained(
        folder, lora=tiny_models.DIFFUSION_LORA, sampling=tiny_models.SAMPLING, **settings
    )


@pytest.fixture
def folder(pipeline_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of a tiny Stable Diffusion, to be damaged."""
    return Path(shutil.copytree(pipeline_folders["epsilon"], tmp_path / "model"))


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(file)), file, {"format": "pt"})


@pytest.mark.parametrize("file", [UNET, TEXT, VAE])
@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {f"_orig_mod.{name}": weight for name, weight in weights.items()},
        lambda weights: {f"module.{name}": weight for name, weight in weights.items()},
        lambda weights: dict(list(weights.items())[1:]),
        lambda weights: weights | {f"{next(iter(weights)).split('.')[0]}.extra.weight": torch.zeros(3)},
        lambda weights: {name: weight[..., :1].clone() for name, weight in weights.items()},
    ],
    ids=["compiled", "parallel", "one missing", "one besides", "other shapes"],
)
def test_weights_that_are_not_the_model_s_are_refused(folder: Path, file: str, change: Callable) -> None:
    rewrite(folder / file, change)
    with pytest.raises(UserError) as refused:
        load(folder)
    assert str(folder / Path(file).parent) in str(refused.value) or "cannot be loaded" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("place", [".", "unet", "text_encoder"])
@pytest.mark.parametrize("file", ["pytorch_lora_weights.safetensors", "adapter_config.json"])
def test_an_adapter_beside_the_weights_is_not_passed_over(folder: Path, place: str, file: str) -> None:
    (folder / place / file).write_text("{}")
    with pytest.raises(UserError, match=f"holds the adapter '{file}'"):
        load(folder)


def test_a_folder_with_an_adapter_alone_is_refused(folder: Path, tmp_path: Path) -> None:
    load(folder).save(tmp_path / "adapter")
    with pytest.raises(UserError, match=r"model: '.*adapter' cannot be loaded"):
        load(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("diffusers:NoSuchPipeline", "should name a pipeline's class"),
        ("no_such_module:Pipeline", "should name a pipeline's class"),
        ("diffusers", "pipeline: 'diffusers' should be a function or class, as package.module:name"),
        ("diffusers:UNet2DConditionModel", "should be a DiffusionPipeline"),
        ("diffusers:StableDiffusionXLPipeline", "should be what '.*' was saved as, a StableDiffusionPipeline"),
    ],
)
def test_another_class_is_refused(folder: Path, pipeline: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(folder, pipeline=pipeline)


def test_a_safety_checker_is_not_loaded(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert load(folder).pipeline.safety_checker is None


def with_unet(**more: object) -> diffusers.DiffusionPipeline:
    pipeline = tiny_models.stable_diffusion("epsilon")
    config = {name: value for name, value in pipeline.unet.config.items() if not name.startswith("_")}
    pipeline.register_modules(unet=diffusers.UNet2DConditionModel(**config | more))
    return pipeline


def with_scheduler(scheduler: object, *, xl: bool = False) -> diffusers.DiffusionPipeline:
    pipeline = tiny_models.stable_diffusion_xl() if xl else tiny_models.stable_diffusion("epsilon")
    pipeline.register_modules(scheduler=scheduler)
    return pipeline


def image_to_image() -> diffusers.DiffusionPipeline:
    parts = tiny_models.stable_diffusion_xl().components
    unused = ("image_encoder", "feature_extractor")
    kept = {name: part for name, part in parts.items() if name not in unused}
    return diffusers.StableDiffusionXLImg2ImgPipeline(**kept, add_watermarker=False)


def flux() -> diffusers.DiffusionPipeline:
    tokenizer = make_tokenizer([" ".join(tiny_models.WORDS)], template="$A </s>", max_length=16)
    t5 = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    more = {"joint_attention_dim": 16, "pooled_projection_dim": 8, "axes_dims_rope": (2, 2, 4)}
    plain = tiny_models.stable_diffusion("epsilon")
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=plain.vae,
        text_encoder=plain.text_encoder,
        tokenizer=plain.tokenizer,
        text_encoder_2=transformers.T5EncoderModel(transformers.T5Config(vocab_size=len(tokenizer), **t5)),
        tokenizer_2=tokenizer,
        transformer=diffusers.FluxTransformer2DModel(patch_size=1, in_channels=16, **sizes, **more),
    )


def with_small_autoencoder() -> diffusers.DiffusionPipeline:
    pipeline = tiny_models.stable_diffusion("epsilon")
    channels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    pipeline.register_modules(vae=diffusers.AutoencoderTiny(latent_channels=4, **channels, **blocks))
    return pipeline


REFUSED = {
    "learned variance": (lambda: with_unet(out_channels=8), "reads 4 channels and predicts 8"),
    "inpainting": (lambda: with_unet(in_channels=9), "reads 9 channels and predicts 4"),
    "latent consistency": (lambda: with_unet(time_cond_proj_dim=16), "was distilled for few steps"),
    "classes": (lambda: with_unet(num_class_embeds=5), "reads classes or images"),
    "lcm": (lambda: with_scheduler(diffusers.LCMScheduler()), "LCMScheduler, samples a model that was distilled"),
    "edm": (lambda: with_scheduler(diffusers.EDMEulerScheduler(), xl=True), r"in another way \(EDM\)"),
    "image to image": (image_to_image, "StableDiffusionXLImg2ImgPipeline, which takes image"),
    "flux": (flux, "a FluxTransformer2DModel, not a UNet2DConditionModel or an SD3Transformer2DModel"),
    "small autoencoder": (with_small_autoencoder, "AutoencoderTiny, gives no distribution"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_drawn_and_trained_in_two_ways_is_refused(kind: str) -> None:
    make, said = REFUSED[kind]
    torch.manual_seed(0)
    with pytest.raises(UserError, match=f"should be a text-to-image pipeline that can be aligned, but .*{said}"):
        DiffusionModel(make(), lora=tiny_models.DIFFUSION_LORA)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_the_usual_schedulers_are_served(name: str) -> None:
    pipeline = with_scheduler(getattr(diffusers, name)())
    model = DiffusionModel(pipeline, lora=tiny_models.DIFFUSION_LORA, sampling=tiny_models.SAMPLING)
    policy, reference = model.log_probs([("red cat",)], [tiny_models.picture(0)], draw=[0])
    assert torch.equal(policy, reference)
    assert model.sample([("red cat",)], seeds=[1])[0].size == (32, 32)


def test_a_variant_without_any_file_is_refused_and_one_with_some_is_taken(folder: Path) -> None:
    with pytest.raises(UserError, match=r"variant: 'fp16' should be one that '.*' has files of"):
        load(folder, variant="fp16")
    (folder / UNET).rename(folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    load(folder, variant="fp16")
