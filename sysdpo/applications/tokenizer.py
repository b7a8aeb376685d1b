"""The small models' tokenizer: one token per word, in transformers' format."""

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

PAD, START, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"


def make_tokenizer(sentences: Iterable[str], *, template: str, max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer of the words in `sentences`; `template` places start and end tokens, as in `<s> $A </s>`."""
    words = sorted({word for sentence in sentences for word in sentence.split()})
    vocabulary = {word: index for index, word in enumerate([PAD, START, END, UNKNOWN, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = [(token, vocabulary[token]) for token in (START, END)]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
