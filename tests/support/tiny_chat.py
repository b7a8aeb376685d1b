"""Tiny random checkpoints of the classes that chat at the paper's scale, and a data set, in the hub's own layout."""

import json
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2Tokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

SYSTEMS = [
    "",
    "You are an AI assistant. Give a detailed and long answer.",
    "Explain it as if to a child of five years.",
]
QUESTIONS = ["What is a {}?", "Write a sentence about a {}:", "Is a {} alive? Yes or no.\n\nSay why."]
THINGS = ["cat", "dog", "stone", "river", "tree", "clock"]
END_OF_TEXT, START_OF_TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}"
    # Where nothing else is said there is a system message all the same.
    "{% if loop.first and message['role'] != 'system' %}"
    f"{START_OF_TURN}system\nYou are a helpful assistant{END_OF_TURN}\n"
    "{% endif %}"
    f"{START_OF_TURN}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{END_OF_TURN}\n"
    "{% endfor %}"
    f"{{{{ '{START_OF_TURN}assistant\\n' if add_generation_prompt }}}}"
)
WITHOUT_SYSTEM = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    f"{START_OF_TURN}{{{{ message['role'] }}}}\n{{{{ message['content'] }}}}{END_OF_TURN}\n"
    "{% endfor %}"
)


def save_qwen2(folder: Path, seed: int = 0, *, layers: int = 2, plain: bool = False) -> Path:
    """Qwen1.5-1.8B-Chat's classes: byte-level BPE, ChatML, two end tokens, more embeddings than there are tokens.

    plain: what it says at random is ASCII, so that other tokenizers find it about as long.
    """
    torch.manual_seed(seed)
    tokenizer = qwen2_tokenizer(plain=plain)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 5,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        initializer_range=0.3,
        bos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TEXT),
        eos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TURN),
        tie_word_embeddings=False,
    )
    model = Qwen2ForCausalLM(config)
    ends = tokenizer.convert_tokens_to_ids([END_OF_TURN, END_OF_TEXT])
    # Sampling settings like the hub's, which must not bend what is trained.
    model.generation_config = GenerationConfig(
        pad_token_id=ends[1], eos_token_id=ends, do_sample=True, top_p=0.8, repetition_penalty=1.1
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen2_tokenizer(chat_template: str | None = CHATML, *, plain: bool = False) -> Qwen2Tokenizer:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = [*map(chr, range(33, 127)), "Ġ", "Ċ"] if plain else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(_texts(), trainer)
    learnt = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(pair) for pair in learnt["merges"]],
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[START_OF_TURN, END_OF_TURN],
        model_max_length=1024,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def save_chat_reward_model(
    folder: Path,
    *,
    labels: int = 1,
    seed: int = 1,
    chat_template: str = CHATML,
    padded: bool = True,
    layers: int = 2,
    plain: bool = False,
) -> Path:
    """A decoder whose reward is read off the last token of a conversation; `padded`: it knows its padding."""
    torch.manual_seed(seed)
    tokenizer = qwen2_tokenizer(chat_template, plain=plain)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id if padded else None,
        num_labels=labels,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_pair_reward_model(folder: Path, seed: int = 2, *, layers: int = 2) -> Path:
    """reward-model-deberta-v3-large-v2's classes: an encoder of a pair of texts, unigram pieces, no chat template."""
    torch.manual_seed(seed)
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="[UNK]", show_progress=False, initial_alphabet=list("▁\n")
    )
    trained.train_from_iterator(_texts(), trainer)
    pieces = [tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]]
    tokenizer = DebertaV2Tokenizer(vocab=pieces, unk_id=special.index("[UNK]"), model_max_length=512)
    config = DebertaV2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        type_vocab_size=0,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        pooler_hidden_size=32,
        num_labels=1,
    )
    DebertaV2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def orca_pairs() -> pd.DataFrame:
    """54 questions, each once, under three system prompts, one of which is empty."""
    asked = enumerate(product(THINGS, QUESTIONS, ["", " It is mine.", " It is old."]))
    rows = [
        {
            "system": SYSTEMS[row % 3],
            "question": question.format(thing) + more,
            "chosen": f"A {thing} is what one calls a {thing}. Everybody knows one when they see one.",
            "rejected": f"No {thing}.",
        }
        for row, (thing, question, more) in asked
    ]
    return pd.DataFrame(rows)


def save_orca_pairs(folder: Path, kind: str = "parquet", pairs: pd.DataFrame | None = None) -> Path:
    """A folder as on the hub, in the layout of either `kind`: `jsonl` at the top, or `parquet` in `data`."""
    pairs = orca_pairs() if pairs is None else pairs
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "dataset_infos.json").write_text(json.dumps({"default": {"splits": {"train": {"name": "train"}}}}))
    if kind == "jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in pairs.to_dict("records")]
        (folder / "orca_rlhf.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    else:
        (folder / "data").mkdir(exist_ok=True)
        pairs.to_parquet(folder / "data" / "train-00000-of-00001.parquet", index=False)
    return folder


def _texts() -> list[str]:
    return [str(text) for row in orca_pairs().to_dict("records") for text in row.values()]
