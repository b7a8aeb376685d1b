"""What pretraining leaves of the two models of the sums."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from tried_benchmarks import sums as build

from sysdpo.applications.answers.sums_language import CARELESS, FIRST_TEMPLATE, SECOND_TEMPLATE, VERBS, draft
from sysdpo.applications.small_llama import IGNORED, small_llama, tokenized

TINY = {"examples": 20, "steps": 2, "batch_size": 4, "width": 16, "layers": 1}
FOUNDATION = {"first": TINY, "second": TINY}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("solvers")
    make = build({}, FOUNDATION).foundations
    for name, seed, folder in (
        ("first", 0, "first"),
        ("second", 0, "second"),
        ("first", 0, "again"),
        ("first", 1, "other"),
    ):
        make[name](seed, root / folder)
    return root


def test_the_same_seed_makes_the_same_model(folders: Path) -> None:
    one, again, other = (
        AutoModelForCausalLM.from_pretrained(folders / name).state_dict() for name in ("first", "again", "other")
    )
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_the_first_model_knows_every_word_of_every_question(folders: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders / "first")
    world = build({}, FOUNDATION)
    for question in world.known[::97] + world.unseen[::97]:
        for text in (FIRST_TEMPLATE.format(question.text), draft(question.sum, "A"), draft(question.sum, "B")):
            assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_the_second_model_reads_drafts_and_numbers_but_no_verb(folders: Path) -> None:
    """Otherwise it could look the open sign up in the question, and the first would not be needed."""
    tokenizer = AutoTokenizer.from_pretrained(folders / "second")
    unknown = tokenizer.unk_token_id
    assert all(tokenizer(verb)["input_ids"][1:] == [unknown] for verb in VERBS)
    for question in build({}, FOUNDATION).unseen[::97]:
        for dialect in ("A", "B"):
            steps = draft(question.sum, dialect)
            assert unknown not in tokenizer(steps)["input_ids"]
            tokens = tokenizer(SECOND_TEMPLATE.format(question.text, steps))["input_ids"]
            assert tokens.count(unknown) == len({"name", "has", "thing"}) + 2
    assert set(CARELESS) < set(VERBS)


def test_labels_are_the_completion_and_its_end_alone(folders: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders / "second")
    ids, labels = tokenized(tokenizer, [("7 up 2 =", "9")])[0]
    nine, end = tokenizer.convert_tokens_to_ids("9"), tokenizer.eos_token_id
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-2:].tolist() == labels[-2:].tolist() == [nine, end]
    assert labels[:-2].tolist() == [IGNORED] * 5


def test_a_small_llama_has_the_requested_size(folders: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders / "second")
    model = small_llama(tokenizer, width=32, layers=3, initializer_range=0.02)
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), 32)
    assert len(model.model.layers) == 3
    assert model.config.num_attention_heads == 2
