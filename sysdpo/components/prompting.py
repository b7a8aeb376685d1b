"""From what a node is generated from to the token ids that a language model reads."""

from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from sysdpo.errors import UserError


class PromptEncoder:
    """`template.format(*condition)` in tokens, each prompt's computed once.

    With a chat template it is the user's message, after the system message `system_prompt.format(*condition)` where
    that is not empty. Raises `UserError` where there is a system prompt and no chat template, or one that refuses it,
    and where either of the two asks for more than the node is generated from.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, system_prompt: str | None):
        if system_prompt and tokenizer.chat_template is None:
            raise UserError(
                f"system_prompt: {system_prompt!r} needs a chat template, which the model's tokenizer does not have; "
                "write it into the template and leave this empty, ''"
            )
        self.tokenizer, self.template, self.system_prompt = tokenizer, template, system_prompt or ""
        self._known: dict[tuple[str, str], list[int]] = {}

    def __call__(self, condition: tuple[Any, ...]) -> list[int]:
        """The prompt's token ids."""
        key = (_filled("template", self.template, condition), _filled("system_prompt", self.system_prompt, condition))
        if key not in self._known:
            self._known[key] = self._encode(*key)
        return self._known[key]

    def _encode(self, text: str, system: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer(text)["input_ids"])
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": text})
        try:
            return list(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))
        except TemplateError as error:
            raise UserError(
                f"system_prompt: {self.system_prompt!r} should be left out for this model, whose chat template refuses "
                f"it ({error})"
            ) from error


def _filled(setting: str, text: str, condition: tuple[Any, ...]) -> str:
    try:
        return text.format(*condition)
    except (LookupError, ValueError) as error:
        places = ", ".join(f"{{{place}}}" for place in range(len(condition)))
        raise UserError(
            f"{setting}: {text!r} should stand for a prompt, with {places} for the node's inputs and other braces "
            f"doubled ({type(error).__name__}: {error})"
        ) from error
