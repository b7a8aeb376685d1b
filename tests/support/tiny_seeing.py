"""Tiny models of the ecosystem's own classes that see pictures or classify."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from tiny_models import WORDS
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from sysdpo.applications.tokenizer import make_tokenizer

SIZE, PATCH = 16, 8
ALL_LINEAR = {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"}
CHAT = (
    "{% for message in messages %}<s> {% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }} {% endfor %}{% endfor %}"
    "{% if mood %}{{ mood }} {% endif %}"
)


def picture(red: int, blue: int = 0) -> Image.Image:
    return Image.new("RGB", (SIZE, SIZE), (red, 40, blue))


def save_llava(folder: Path, *, words: Sequence[str] = WORDS, chat: bool = False) -> Path:
    torch.manual_seed(0)
    tokenizer = make_tokenizer([" ".join(words)], template="<s> $A", max_length=96)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    mark = tokenizer.convert_tokens_to_ids("<image>")
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=96,
        initializer_range=0.5,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=PATCH,
        initializer_range=0.5,
        projection_dim=8,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=mark,
        image_seq_length=(SIZE // PATCH) ** 2,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    size = {"height": SIZE, "width": SIZE}
    images = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=size)
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT if chat else None,
    )
    processor.save_pretrained(folder)
    return folder


def save_router(folder: Path, labels: Sequence[str] = ("short", "long")) -> Path:
    torch.manual_seed(0)
    tokenizer = make_tokenizer([" ".join(WORDS)], template="<s> $A", max_length=32)
    names = dict(enumerate(labels))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.5,
        id2label=names,
        label2id={label: number for number, label in names.items()},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_picture_classifier(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=PATCH,
        initializer_range=0.5,
        id2label={0: "good", 1: "bad", 2: "odd"},
        label2id={"good": 0, "bad": 1, "odd": 2},
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder
