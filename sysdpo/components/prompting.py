"""From the condition of a node to the token ids that a language model reads."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from sysdpo.base.errors import UserError
from sysdpo.method.values import as_text

TEMPLATE_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError)
FOR_TEMPLATES = {"tools", "documents", "chat_template", "kwargs"}  # what a user may say of `apply_chat_template`


class PromptEncoder:
    """`template.format(*condition)` in tokens, each prompt's computed once.

    With a chat template it is the user's message, after the system message `system_prompt.format(*condition)` where
    that is not empty; the chat template is given `chat_template_kwargs`. Without one the tokens are those that the
    tokenizer makes of a text, but for an end token that it may put behind it. An empty prompt is the begin token.

    Raises `UserError` where there is a system prompt or are `chat_template_kwargs` and no chat template, or one that
    refuses them, where the template or system prompt asks for more than the node is generated from, and for an empty
    prompt without a begin token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        system_prompt: str | None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        self.tokenizer, self.template, self.system_prompt = tokenizer, template, system_prompt or ""
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        for name, value in (("system_prompt", self.system_prompt), ("chat_template_kwargs", self.chat_template_kwargs)):
            if value and tokenizer.chat_template is None:
                raise UserError(
                    f"{name}: {value!r} needs a chat template, which the model's tokenizer does not have; write what "
                    f"it should say into the template and leave {name} empty"
                )
        check_chat_template_kwargs(tokenizer, self.chat_template_kwargs)
        self.behind = _tokens_behind(tokenizer)
        self._known: dict[tuple[str, str], list[int]] = {}

    def __call__(self, condition: tuple[Any, ...]) -> list[int]:
        """The prompt's token ids."""
        key = (fill("template", self.template, condition), fill("system_prompt", self.system_prompt, condition))
        if key not in self._known:
            self._known[key] = self._encode(*key) or self._begin()
        return self._known[key]

    def readable(self, condition: tuple[Any, ...]) -> str | list[dict[str, str]]:
        """The prompt before it is tokens: a text, or the messages of a chat."""
        text = fill("template", self.template, condition)
        system = fill("system_prompt", self.system_prompt, condition)
        return text if self.tokenizer.chat_template is None else _messages(text, system)

    def _encode(self, text: str, system: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            tokens = list(self.tokenizer(text)["input_ids"])
            return tokens[: len(tokens) - self.behind]
        try:
            return self._render(_messages(text, system))
        except TEMPLATE_FAILURES as error:
            if system and self._renders(_messages(text, "")):
                raise UserError(
                    f"system_prompt: {self.system_prompt!r} should be left out for this model, whose chat template "
                    f"refuses it ({error})"
                ) from error
            raise UserError(
                f"chat_template_kwargs: {self.chat_template_kwargs} should be all that the model's chat template needs "
                f"to render a user's message, which fails ({type(error).__name__}: {error})"
            ) from error

    def _render(self, messages: list[dict[str, str]]) -> list[int]:
        render = self.tokenizer.apply_chat_template
        return list(render(messages, add_generation_prompt=True, return_dict=False, **self.chat_template_kwargs))

    def _renders(self, messages: list[dict[str, str]]) -> bool:
        try:
            return bool(self._render(messages))
        except TEMPLATE_FAILURES:
            return False

    def _begin(self) -> list[int]:
        if self.tokenizer.bos_token_id is None:
            raise UserError(
                f"template: {self.template!r} gives an empty prompt here, but should give some text: the model's "
                "tokenizer has no begin token that could stand for none"
            )
        return [self.tokenizer.bos_token_id]


def check_chat_template_kwargs(tokenizer: PreTrainedTokenizerBase, kwargs: Mapping[str, Any]) -> None:
    """Raises `UserError` for what is no variable of a template but changes how the tokenizer treats its text."""
    if taken := sorted(kwargs.keys() & signature(tokenizer.apply_chat_template).parameters.keys() - FOR_TEMPLATES):
        raise UserError(
            f"chat_template_kwargs: {taken} should be left out; variables of the chat template belong here, "
            "enable_thinking say"
        )


def conversation(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Mapping[str, str]], model: str) -> list[int]:
    """The tokens of a conversation in the tokenizer's chat template; raises `UserError` if that refuses it.

    model: what it is called in the error.
    """
    try:
        return list(tokenizer.apply_chat_template(turns, return_dict=False))
    except TEMPLATE_FAILURES as error:
        raise UserError(
            f"model: '{model}' should have a chat template for a question and its answer ({error})"
        ) from error


def end_token(tokenizer: PreTrainedTokenizerBase, chat_template_kwargs: Mapping[str, Any] | None = None) -> int | None:
    """The token that ends an answer: the one that the chat template ends an assistant's turn with.

    Where there is no chat template, or its turns end with no special token, the tokenizer's end token; None if it has
    none either.
    """
    answer = "x7answer7x"  # nothing that a template says itself
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": answer}]
    after = ""
    if tokenizer.chat_template is not None:
        try:
            text = tokenizer.apply_chat_template(turns, tokenize=False, **(chat_template_kwargs or {}))
            after = text.rpartition(answer)[2] if answer in text else ""
        except TEMPLATE_FAILURES:
            pass  # A template that is no use is refused where a prompt is rendered.
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special |= set(tokenizer.all_special_ids)
    tokens = tokenizer(after, add_special_tokens=False)["input_ids"]
    return next((token for token in tokens if token in special), tokenizer.eos_token_id)


def _tokens_behind(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens the tokenizer puts behind a text, an end token say."""
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    rooms = range(len(whole) - len(bare) + 1)
    return next((room for room in rooms if whole[len(whole) - room - len(bare) : len(whole) - room] == bare), 0)


def _messages(text: str, system: str) -> list[dict[str, str]]:
    user = {"role": "user", "content": text}
    return [{"role": "system", "content": system}, user] if system else [user]


def fill(setting: str, text: str, condition: tuple[Any, ...]) -> str:
    for value in condition:
        as_text(value)  # which refuses a picture
    try:
        return text.format(*condition)
    except (LookupError, ValueError) as error:
        names = ", ".join(f"{{{index}}}" for index in range(len(condition)))
        raise UserError(
            f"{setting}: {text!r} should stand for a prompt, with {names} for the node's inputs and other braces "
            f"doubled ({type(error).__name__}: {error})"
        ) from error
