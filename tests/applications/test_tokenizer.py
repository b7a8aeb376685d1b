"""One token a word."""

from pathlib import Path

from transformers import AutoTokenizer

from sysdpo.applications.tokenizer import make_tokenizer


def test_words_become_tokens_and_tokens_words(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(["a cat ;", "a dog"], template="<s> $A </s>", max_length=6)
    assert len(tokenizer) == 4 + 4  # the special tokens, and: ; a cat dog
    ids = tokenizer("a cat ; a bird")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "a", "cat", ";", "a", "<unk>", "</s>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a cat ; a"
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)("a dog")["input_ids"] == tokenizer("a dog")["input_ids"]


def test_the_vocabulary_does_not_depend_on_the_order_of_sentences() -> None:
    first = make_tokenizer(["a cat", "the dog"], template="<s> $A", max_length=6)
    second = make_tokenizer(["the dog", "a cat"], template="<s> $A", max_length=6)
    assert first.get_vocab() == second.get_vocab()


def test_the_template_says_where_start_and_end_go() -> None:
    tokenizer = make_tokenizer(["a cat"], template="<s> $A", max_length=6)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a cat")["input_ids"]) == ["<s>", "a", "cat"]
    padded = tokenizer(["a", "a cat"], padding=True)
    assert padded["input_ids"][0][-1] == tokenizer.pad_token_id
