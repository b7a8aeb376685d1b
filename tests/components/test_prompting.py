"""Prompts and ends of answers as the tokenizer and its chat template mean them, and what they cannot say refused."""

from typing import Any

import pytest
import tiny_chat
import tiny_models
from transformers import PreTrainedTokenizerBase

from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.errors import UserError
from sysdpo.components.prompting import PromptEncoder, end_token

WORDS = " ".join(tiny_models.WORDS)
# How each family's template ends an assistant's turn; what follows the end belongs to no answer.
TURNS = {
    "ChatML": ("<|im_end|>", "{{ m['content'] }}<|im_end|>\n"),
    "Llama 3": ("<|eot_id|>", "{{ m['content'] | trim }}<|eot_id|>"),
    "Gemma": ("<end_of_turn>", "{{ m['content'] | trim }}<end_of_turn>\n"),
    "Phi 3": ("<|end|>", "{{ m['content'] }}<|end|>\n{% if loop.last %}<|endoftext|>{% endif %}"),
    "GPT-OSS": ("<|return|>", "<|channel|>final<|message|>{{ m['content'] }}<|return|>"),
    "on a line of its own": ("<|im_end|>", "{{ m['content'] }}\n<|im_end|>\n"),
    "the tokenizer's": ("<|endoftext|>", "{{ m['content'] }}{{ eos_token }}"),
    "none": ("<|endoftext|>", "{{ m['content'] }}\n"),
}


def chat(template: Any, **tokens: str | None) -> PreTrainedTokenizerBase:
    tokenizer = tiny_chat.qwen2_tokenizer(template)
    more = ["<|eot_id|>", "<end_of_turn>", "<|end|>", "<|return|>", "<|channel|>", "<|message|>"]
    tokenizer.add_tokens(more, special_tokens=True)
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return tokenizer


@pytest.mark.parametrize("family", TURNS)
def test_an_answer_ends_with_what_the_template_ends_a_turn_with(family: str) -> None:
    end, turn = TURNS[family]
    asked = "<|im_start|>user {{ m['content'] }}<|im_end|>"
    template = (
        f"{{% for m in messages %}}{{% if m['role'] == 'user' %}}{asked}{{% else %}}{turn}{{% endif %}}{{% endfor %}}"
    )
    tokenizer = chat(template, eos_token="<|endoftext|>")
    assert tokenizer.convert_ids_to_tokens(end_token(tokenizer)) == end


def test_what_a_template_is_told_may_change_the_end() -> None:
    template = "{% for m in messages %}{{ m['content'] }}{{ '<|end|>' if short else '<|eot_id|>' }}{% endfor %}"
    tokenizer = chat(template)
    assert tokenizer.convert_ids_to_tokens(end_token(tokenizer, {"short": True})) == "<|end|>"
    assert tokenizer.convert_ids_to_tokens(end_token(tokenizer, {})) == "<|eot_id|>"


@pytest.mark.parametrize(
    "template", [None, "{{ raise_exception('no') }}", "{% for m in messages %}{{ m['role'] }}{% endfor %}"]
)
def test_where_a_template_says_nothing_it_is_the_tokenizer_s_end_token(template: str | None) -> None:
    tokenizer = chat(template, eos_token="<|endoftext|>")
    assert end_token(tokenizer) == tokenizer.eos_token_id
    assert end_token(chat(template, eos_token=None)) is None


def test_a_template_is_told_what_the_setting_says() -> None:
    told = "{{ date_string or '??' }}{{ ' no' if enable_thinking is false }}"
    template = f"{{% for m in messages %}}{{{{ m['content'] }}}}{{% endfor %}} {told}"
    tokenizer = chat(template)

    def prompt(**told: Any) -> str:
        return tokenizer.decode(PromptEncoder(tokenizer, "{0}", None, told)(("Q",)))

    assert prompt() == "Q ??"
    assert prompt(date_string="26 Jul 2024", enable_thinking=False) == "Q 26 Jul 2024 no"


@pytest.mark.parametrize("name", ["tokenize", "add_generation_prompt", "truncation", "max_length", "conversation"])
def test_what_is_no_variable_of_a_template_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"chat_template_kwargs: \['{name}'\] should be left out"):
        PromptEncoder(chat(tiny_chat.CHATML), "{0}", None, {name: False})


@pytest.mark.parametrize(("name", "value"), [("system_prompt", "Be brief."), ("chat_template_kwargs", {"a": 1})])
def test_without_a_chat_template_there_is_nothing_to_tell(name: str, value: Any) -> None:
    settings = {"system_prompt": None, name: value}
    with pytest.raises(UserError, match=rf"{name}: .* needs a chat template, which .* leave {name} empty"):
        PromptEncoder(chat(None), "{0}", **settings)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({"tool_use": tiny_chat.CHATML, "rag": tiny_chat.CHATML}, "multiple chat templates with no default"),
        ("{% for m in messages %}{{ m['content'].foo() }}{% endfor %}", "'foo'"),
        ("{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}", "TypeError"),
        ("{% for m in messages %}{{ m['content'] {% endfor %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no chat today') }}", "no chat today"),
    ],
)
@pytest.mark.parametrize("system_prompt", [None, "Be brief."])
def test_a_template_that_fails_is_a_sentence_about_the_template(template: Any, reason: str, system_prompt) -> None:
    encode = PromptEncoder(chat(template), "{0}", system_prompt)
    with pytest.raises(UserError, match=rf"chat_template_kwargs: {{}} should be all that .* fails \(.*{reason}"):
        encode(("Q",))


def test_one_of_several_templates_can_be_named() -> None:
    tokenizer = chat({"tool_use": "tools", "rag": tiny_chat.CHATML})
    named = PromptEncoder(tokenizer, "{0}", None, {"chat_template": "rag"})
    assert named(("Q",)) == PromptEncoder(chat(tiny_chat.CHATML), "{0}", None)(("Q",))


def test_a_template_that_refuses_the_system_prompt_alone_is_a_sentence_about_the_prompt() -> None:
    tokenizer = chat(tiny_chat.WITHOUT_SYSTEM)
    assert PromptEncoder(tokenizer, "{0}", None)(("Q",))
    with pytest.raises(UserError, match=r"system_prompt: 'Be brief.' should be left out for this model"):
        PromptEncoder(tokenizer, "{0}", "Be brief.")(("Q",))


@pytest.mark.parametrize("around", ["$A", "<s> $A", "<s> $A </s>", "$A </s>", "<s> $A </s> </s>"])
def test_a_prompt_has_the_begin_token_of_its_tokenizer_and_no_end_token(around: str) -> None:
    tokenizer = make_tokenizer([WORDS], template=around, max_length=32)
    encode = PromptEncoder(tokenizer, "{0}", None)
    begin = [tokenizer.bos_token_id] if "<s>" in around.split() else []
    assert encode(("cat runs",)) == [*begin, tokenizer.vocab["cat"], tokenizer.vocab["runs"]]


def test_an_end_token_that_is_in_the_text_stays() -> None:
    tokenizer = make_tokenizer([WORDS], template="<s> $A", max_length=32)
    assert PromptEncoder(tokenizer, "{0}", None)(("cat </s>",))[-1] == tokenizer.eos_token_id


def test_an_empty_prompt_is_the_begin_token_or_refused() -> None:
    begun = make_tokenizer([WORDS], template="$A", max_length=32)
    assert PromptEncoder(begun, "{0}", None)(("",)) == [begun.bos_token_id]
    with pytest.raises(UserError, match=r"template: '\{0\}' gives an empty prompt here.* has no begin token"):
        PromptEncoder(chat(None, bos_token=None), "{0}", None)(("",))


def test_a_prompt_is_never_cut() -> None:
    tokenizer = chat(None, model_max_length=4)
    tokenizer.backend_tokenizer.enable_truncation(4)
    text = "What is a cat? Write a sentence about a river."
    assert tokenizer.decode(PromptEncoder(tokenizer, "{0}", None)((text,))) == text
