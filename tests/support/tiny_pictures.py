"""Tiny random checkpoints of the classes that draw picture series at the paper's scale, in the hub's own layout."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

SENTENCES = [
    "Draw a cat getting progressively angrier.",
    "1. A calm cat sits on a mat.\n2. A cross cat arches its back.\n3. A furious cat hisses.",
    "a photo of a calm cat",
    "a photo of an angry cat",
]
BEGIN, END_OF_TEXT, END_OF_TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"
START_HEADER, END_HEADER = "<|start_header_id|>", "<|end_header_id|>"
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 32, "patch_size": 8, "projection_dim": 8}
LLAMA_3_CHAT = (
    "{% for message in messages %}"
    "{{ bos_token if loop.first }}"
    f"{START_HEADER}{{{{ message['role'] }}}}{END_HEADER}\n\n"
    f"{{{{ message['content'] | trim }}}}{END_OF_TURN}"
    "{% endfor %}"
    f"{{{{ '{START_HEADER}assistant{END_HEADER}\\n\\n' if add_generation_prompt }}}}"
)


def save_llama_3(folder: Path, *, layers: int = 2) -> Path:
    """Meta-Llama-3-8B-Instruct's classes: grouped-query Llama, byte-level BPE, chat template, two end tokens."""
    torch.manual_seed(0)
    tokenizer = llama_3_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        rms_norm_eps=1e-5,
        initializer_range=0.3,
        bos_token_id=tokenizer.convert_tokens_to_ids(BEGIN),
        eos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    ends = tokenizer.convert_tokens_to_ids([END_OF_TEXT, END_OF_TURN])
    # Sampling settings like the hub's, which must not bend what is trained.
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=ends, do_sample=True, temperature=0.6, top_p=0.9
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def llama_3_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    special = [BEGIN, END_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END_OF_TURN,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        chat_template=LLAMA_3_CHAT,
    )


def save_stable_diffusion_xl(folder: Path, *, variant: str | None = None) -> Path:
    """stable-diffusion-xl-base-1.0's classes: two text encoders, added time ids, an autoencoder that needs float32.

    Pictures have 64 pixels a side, latents 16. With a `variant` the weight files have that name and half precision.
    """
    torch.manual_seed(1)
    text_encoder = CLIPTextModel(text_config(hidden_size=16))
    # Two that differ in width and activation, or one could stand for the other unnoticed.
    text_encoder_2 = CLIPTextModelWithProjection(text_config(hidden_size=24, hidden_act="gelu", projection_dim=12))
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        cross_attention_dim=16 + 24,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=12 + 6 * 8,
    )
    scheduler = EulerDiscreteScheduler(timestep_spacing="leading", **NOISE)
    pipeline = StableDiffusionXLPipeline(
        vae=_autoencoder(scaling_factor=0.13025, force_upcast=True),
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(pad_token="!"),
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )
    if variant:
        pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, variant=variant)
    for name in ("tokenizer", "tokenizer_2"):
        _in_two_files(folder / name)
    return folder


def save_stable_diffusion_1_5(folder: Path) -> Path:
    """stable-diffusion-v1-5's classes: one text encoder and a safety checker (which this one never stirs)."""
    torch.manual_seed(4)
    checker = CLIPConfig(text_config=text_config(16, projection_dim=8).to_dict(), vision_config=VISION)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=8,
        cross_attention_dim=16,
    )
    pipeline = StableDiffusionPipeline(
        vae=_autoencoder(scaling_factor=0.18215),
        text_encoder=CLIPTextModel(text_config(hidden_size=16)),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **NOISE),
        safety_checker=StableDiffusionSafetyChecker(checker),
        feature_extractor=CLIPImageProcessorPil(size=32, crop_size=32),
    )
    pipeline.save_pretrained(folder)
    _in_two_files(folder / "tokenizer")
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _autoencoder(**more) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        **more,
    )


def _in_two_files(folder: Path) -> None:
    """A tokenizer as older checkpoints have it: its vocabulary and its merges apart."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"]), ""]))
    (folder / "tokenizer.json").unlink()


def save_clip(folder: Path, seed: int = 2, *, side: int = 32) -> Path:
    """clip-vit-large-patch14's classes; its image processor is told in the words of years ago, as on the hub.

    side: of the pictures that it sees, in pixels.
    """
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config=text_config(hidden_size=16, projection_dim=8, initializer_factor=4.0).to_dict(),
        vision_config=VISION | {"initializer_factor": 4.0, "image_size": side},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    preprocessor = {"feature_extractor_type": "CLIPFeatureExtractor", "do_resize": True, "size": side, "resample": 3}
    preprocessor |= {"do_center_crop": True, "crop_size": side, "do_normalize": True}
    preprocessor |= {"image_mean": [0.481, 0.458, 0.408], "image_std": [0.269, 0.261, 0.276]}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def text_config(hidden_size: int, **more) -> CLIPTextConfig:
    tokenizer = clip_tokenizer()
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )


def clip_tokenizer(pad_token: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's own class with every byte, alone and at a word's end, and a few merges; its end token is the last."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t</w>"), ("a", "n"), ("an", "g"), ("ang", "r"), ("angr", "y</w>")]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocabulary = {word: place for place, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=77)


def save_regressor(folder: Path, attributes: tuple[str, ...], problem_type: str | None = "regression") -> Path:
    """A vision transformer with an output for each attribute."""
    torch.manual_seed(3)
    config = ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        initializer_range=0.2,
        id2label=dict(enumerate(attributes)),
        label2id={name: place for place, name in enumerate(attributes)},
        problem_type=problem_type,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    preprocessor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    preprocessor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder
