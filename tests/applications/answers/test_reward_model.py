"""Rewards are the model's own output on what it was made to read, whichever rows share a batch."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tiny_chat
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from sysdpo.applications.answers.reward_model import RewardModel
from sysdpo.base.errors import UserError

SYSTEMS = ["", "Be brief.", "", "Explain it to a child."]
QUESTIONS = ["What is a cat?", "What is a cat?", "Is a stone alive?", "Write about a river."]
ANSWERS = ["A cat.", "A cat.", "No, a stone is not alive, and nobody ever said that it was.", ""]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat.save_chat_reward_model(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat.save_pair_reward_model(tmp_path_factory.mktemp("pair"))


@torch.no_grad()
def by_hand(folder: Path, tokens: list[int]) -> float:
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return float(network(input_ids=torch.tensor([tokens])).logits[0, 0])


def turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def test_a_chat_model_reads_the_conversation_with_its_system_message(chat: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat)
    expected = []
    for system, question, answer in zip(SYSTEMS, QUESTIONS, ANSWERS, strict=True):
        first = turn("system", system or "You are a helpful assistant")
        text = first + turn("user", question) + turn("assistant", answer)
        expected.append(by_hand(chat, tokenizer(text)["input_ids"]))
    rewards = RewardModel(str(chat)).score(SYSTEMS, QUESTIONS, ANSWERS)
    assert rewards == pytest.approx(expected, abs=1e-4)
    assert abs(rewards[0] - rewards[1]) > 1e-2  # the system message is read


def test_a_model_without_a_chat_template_reads_question_and_answer_as_a_pair(pair: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(pair)
    questions = ["What is a cat?", "Be brief.\n\nWhat is a cat?", "Is a stone alive?"]
    expected = [
        by_hand(
            pair,
            [
                tokenizer.cls_token_id,
                *tokenizer(question, add_special_tokens=False)["input_ids"],
                tokenizer.sep_token_id,
                *tokenizer(answer, add_special_tokens=False)["input_ids"],
                tokenizer.sep_token_id,
            ],
        )
        for question, answer in zip(questions, ANSWERS, strict=False)
    ]
    rewards = RewardModel(str(pair)).score(SYSTEMS[:3], QUESTIONS[:3], ANSWERS[:3])
    assert rewards == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["chat", "pair"])
def test_batches_change_nothing(kind: str, chat: Path, pair: Path) -> None:
    folder = str(chat if kind == "chat" else pair)
    together = RewardModel(folder, batch_size=3).score(SYSTEMS, QUESTIONS, ANSWERS)
    alone = RewardModel(folder, batch_size=1).score(SYSTEMS, QUESTIONS, ANSWERS)
    assert together == pytest.approx(alone, abs=1e-4)
    assert len(set(alone.round(3))) == 4
    assert RewardModel(folder).score([], [], []).shape == (0,)


def test_a_decoder_that_knows_no_padding(chat: Path, tmp_path: Path) -> None:
    folder = tiny_chat.save_chat_reward_model(tmp_path, padded=False)
    expected = RewardModel(str(chat)).score(SYSTEMS, QUESTIONS, ANSWERS)  # the same weights
    rewards = RewardModel(str(folder), batch_size=4).score(SYSTEMS, QUESTIONS, ANSWERS)
    assert rewards == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["chat", "pair"])
def test_the_same_answer_has_the_same_reward_wherever_it_stands(kind: str, chat: Path, pair: Path) -> None:
    """Neither may win against the other, though what shares a batch, and its padding, move a number a little."""
    folder = str(chat if kind == "chat" else pair)
    answers = [
        "A cat.",
        "No, a stone is not alive, and nobody ever said that it was.",
        "A cat.",
        "A dog, no.",
        "A cat.",
    ]
    questions = ["What is a cat?"] * 5
    for size in (1, 2, 3):
        judge = RewardModel(folder, batch_size=size, dtype="bfloat16")
        read: list[int] = []
        judge.network.register_forward_pre_hook(
            lambda module, args, kwargs, read=read: read.append(len(kwargs["input_ids"])), with_kwargs=True
        )
        rewards = judge.score([""] * 5, questions, answers)
        assert rewards[0] == rewards[2] == rewards[4]
        assert len(set(rewards)) == 3
        assert sum(read) == 3
    apart = judge.score(["", "Be brief."], questions[:2], answers[:1] * 2)
    assert apart[0] != apart[1]  # the same answer to another question


@pytest.mark.parametrize("padded", [True, False])
def test_a_tokenizer_without_padding_and_end(chat: Path, tmp_path: Path, padded: bool) -> None:
    expected = RewardModel(str(chat)).score(SYSTEMS, QUESTIONS, ANSWERS)  # the same weights
    folder = tiny_chat.save_chat_reward_model(tmp_path, padded=padded)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    rewards = RewardModel(str(folder), batch_size=4).score(SYSTEMS, QUESTIONS, ANSWERS)
    assert rewards == pytest.approx(expected, abs=1e-4)


def test_a_template_that_refuses_system_messages_has_them_in_the_question(tmp_path: Path) -> None:
    folder = tiny_chat.save_chat_reward_model(tmp_path, chat_template=tiny_chat.WITHOUT_SYSTEM)
    judge = RewardModel(str(folder))
    moved = judge.score(["Be brief."], ["What is a cat?"], ["A cat."])
    assert moved == pytest.approx(judge.score([""], ["Be brief.\n\nWhat is a cat?"], ["A cat."]))
    assert moved != pytest.approx(judge.score([""], ["What is a cat?"], ["A cat."]), abs=1e-3)


def test_a_template_that_refuses_everything_is_an_error(tmp_path: Path) -> None:
    for refusing, reason in (
        ("{{ raise_exception('no chat') }}", "no chat"),
        ("{{ messages + 1 }}", "can only concat"),
    ):
        folder = tiny_chat.save_chat_reward_model(tmp_path, chat_template=refusing)
        with pytest.raises(UserError, match=rf"should have a chat template for a question and its answer \({reason}"):
            RewardModel(str(folder)).score(["Be brief."], ["What is a cat?"], ["A cat."])


def test_what_is_too_long_loses_a_conversation_s_beginning_and_a_pair_s_end(chat: Path, pair: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat)
    text = turn("system", "Be brief.") + turn("user", "What is a cat?") + turn("assistant", "A cat.")
    expected = by_hand(chat, tokenizer(text)["input_ids"][-12:])
    reward = RewardModel(str(chat), max_length=12).score(["Be brief."], ["What is a cat?"], ["A cat."])
    assert reward == pytest.approx([expected], abs=1e-4)
    short = RewardModel(str(pair), max_length=16)
    words = "A cat is a cat, said the cat to the cat."
    assert short.score([""], ["Cat?"], [words]) == pytest.approx(short.score([""], ["Cat?"], [f"{words} And more."]))
    assert RewardModel(str(pair)).max_length == 512  # what the model has positions for


def test_a_longer_text_is_cut_where_the_model_has_no_more_positions(pair: Path, tmp_path: Path) -> None:
    """RoBERTa's begin behind its padding: of 34 there are 32."""
    tokenizer = AutoTokenizer.from_pretrained(pair)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=34,
        type_vocab_size=2,
        pad_token_id=1,
        num_labels=1,
    )
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    judge = RewardModel(str(tmp_path))
    assert judge.max_length == 32
    assert np.isfinite(judge.score([""] * 2, ["What is a cat? " * 9, "A cat?"], ["A cat is a cat. " * 9, "Yes."])).all()
    tokenizer.model_max_length = 20
    tokenizer.save_pretrained(tmp_path)
    assert RewardModel(str(tmp_path)).max_length == 20
    assert RewardModel(str(tmp_path), max_length=10).max_length == 10


def test_a_head_of_more_than_one_label_is_refused(tmp_path: Path) -> None:
    folder = tiny_chat.save_chat_reward_model(tmp_path, labels=3)
    with pytest.raises(UserError, match=r"model: '.*' has 3 labels, but a reward model should have 1"):
        RewardModel(str(folder))


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    folder = tiny_chat.save_qwen2(tmp_path)
    with pytest.raises(UserError, match=r"should hold a whole Qwen2ForSequenceClassification.*'score.weight'"):
        RewardModel(str(folder))
    with pytest.raises(UserError, match=r"model: .*nowhere.* cannot be loaded"):
        RewardModel(str(tmp_path / "nowhere"))


def test_closing_it_frees_its_memory(pair: Path) -> None:
    with closing(RewardModel(str(pair), dtype="bfloat16", batch_size=2)) as judge:
        assert judge.network.dtype == torch.bfloat16
        assert judge.score([""], ["Cat?"], ["Cat."]).dtype == float
    assert not hasattr(judge, "network")
