"""From what a node is generated from, pictures among it, to what a vision-language model reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from sysdpo.base.errors import UserError
from sysdpo.components.prompting import TEMPLATE_FAILURES, check_chat_template_kwargs, fill
from sysdpo.method.values import Completion, Interleaved, picture_key

Parts = tuple[str | Image, ...]


@dataclass(frozen=True)
class PicturePrompt:
    """A prompt as its model's processor takes it: a text with a mark for each picture, and the pictures in order."""

    text: str
    pictures: tuple[Image, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for equal prompts."""
        return (self.text, *map(picture_key, self.pictures))


class PicturePrompter:
    """`template.format(*condition)`, each picture where its number stands.

    With a chat template it is the user's message, after the system message where there is one, and the chat template
    says how a picture is marked; without one the processor's own mark stands for it. The mark is kept out of texts: a
    model or a person that writes it does not show a picture by that.

    Raises `UserError` where a chat template is needed and there is none or where it fails, and for a template that
    leaves out a picture or does not fit.
    """

    def __init__(
        self,
        processor: Any,
        template: str,
        system_prompt: str | None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        self.processor, self.template, self.system_prompt = processor, template, system_prompt or ""
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self.mark = str(processor.image_token)
        self.has_chat = processor.chat_template is not None
        for name, value in (("system_prompt", self.system_prompt), ("chat_template_kwargs", self.chat_template_kwargs)):
            if value and not self.has_chat:
                raise UserError(
                    f"{name}: {value!r} needs a chat template, which the model's processor does not have; write what "
                    f"it should say into the template and leave {name} empty"
                )
        check_chat_template_kwargs(processor.tokenizer, self.chat_template_kwargs)

    def __call__(self, condition: tuple[Any, ...]) -> PicturePrompt:
        """The prompt of a condition."""
        parts = self.parts(condition)
        pictures = tuple(part for part in parts if isinstance(part, Image))
        if not self.has_chat:
            return PicturePrompt("".join(self.mark if isinstance(part, Image) else part for part in parts), pictures)
        try:
            text = self.processor.apply_chat_template(
                self.messages(condition),
                add_generation_prompt=True,
                tokenize=False,
                **self.chat_template_kwargs,
            )
        except TEMPLATE_FAILURES as error:
            raise UserError(
                "the model's chat template should render a user's message with pictures, with a system message where "
                f"there is one and chat_template_kwargs {self.chat_template_kwargs}; it fails ({error})"
            ) from error
        return PicturePrompt(text, pictures)

    def messages(self, condition: tuple[Any, ...]) -> list[dict[str, Any]]:
        """The prompt as a chat: the user's message, after the system's where there is one."""
        content = [
            {"type": "image"} if isinstance(part, Image) else {"type": "text", "text": part}
            for part in self.parts(condition)
        ]
        texts = tuple("" if _is_seen(value) else value for value in condition)
        system = self.unmarked(fill("system_prompt", self.system_prompt, texts))
        user = {"role": "user", "content": content}
        return [{"role": "system", "content": [{"type": "text", "text": system}]}, user] if system else [user]

    def parts(self, condition: tuple[Any, ...]) -> Parts:
        """The template filled in: texts and pictures in their order, no two texts side by side."""
        values: list[Any] = []
        pictures: list[Image] = []
        for value in condition:
            if not _is_seen(value):
                values.append(self.unmarked(str(value)) if isinstance(value, str | Completion) else value)
                continue
            shown = ""
            for part in value.parts if isinstance(value, Interleaved) else (value,):
                if isinstance(part, Image):
                    shown += f"\x00{len(pictures)}\x00"
                    pictures.append(part)
                else:
                    shown += self.unmarked(part)
            values.append(shown)
        pieces = fill("template", self.template, tuple(values)).split("\x00")
        shown_ones = [int(piece) for piece in pieces[1::2]]
        if set(shown_ones) != set(range(len(pictures))):
            names = [f"{{{index}}}" for index, value in enumerate(condition) if _is_seen(value)]
            raise UserError(f"template: {self.template!r} should show every picture of the node's inputs: {names}")
        found = [pictures[int(piece)] if index % 2 else piece for index, piece in enumerate(pieces)]
        return tuple(part for part in found if part != "")

    def unmarked(self, text: str) -> str:
        """A text in which nothing stands for a picture."""
        return text.replace("\x00", "").replace(self.mark, f"{self.mark[:1]} {self.mark[1:]}")


def _is_seen(value: Any) -> bool:
    return isinstance(value, Image | Interleaved)
