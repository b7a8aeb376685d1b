"""How long prompts and answers are, in tokens: counted where a tokenizer is at hand, estimated from words elsewhere."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import pandas as pd

from sysdpo.applications.images.grammar import PROMPT_END
from sysdpo.applications.images.picture_series import SYSTEM_PROMPT, PictureSeries
from sysdpo.applications.images.progressive_images import ProgressiveImages
from sysdpo.components.settings import LanguageModelSettings
from sysdpo.method.system import Node
from sysdpo.plan.foundation import Made
from sysdpo.plan.language import Lengths

TOKENS_A_WORD = 1.4  # of English, with its punctuation: a little more than tokenizers need on average
CHARACTERS_A_TOKEN = 4
CHAT_TOKENS = 20  # what a chat template puts around a message
WORTH_SHARING = 16  # tokens; a shorter prefix is not encoded apart, see `sysdpo.components.language`


@dataclass(frozen=True)
class Input:
    """An input's texts, or their tokens: as long as is usual for a batch, padded to its longest, and the longest."""

    typical: str | int
    longest: str | int


def known_prompts(benchmark: Any, described: Mapping[str, Any]) -> pd.DataFrame | None:
    """The system's prompts; None where they come from a data set that is not here."""
    data = described.get("data") or {}
    if data and not any(isinstance(value, str) and Path(value).exists() for value in data.values()):
        return None
    return benchmark.prompts()


def inputs_of(
    benchmark: Any, prompts: pd.DataFrame | None, described: Mapping[str, Any], assumed: int
) -> dict[str, Input]:
    """Each input of a system as its prompts have it, or its share of `assumed` tokens, and of the most allowed."""
    if prompts is None:
        allowed = (described.get("data") or {}).get("max_prompt_characters", 0) // CHARACTERS_A_TOKEN
        share = [math.ceil(tokens / len(benchmark.inputs)) for tokens in (assumed, max(assumed, allowed))]
        return dict.fromkeys(benchmark.inputs, Input(*share))
    found = {}
    for name in benchmark.inputs:
        texts = sorted(prompts[name].astype(str), key=lambda text: len(text.split()))
        found[name] = Input(texts[int(0.9 * len(texts))], texts[-1])
    return found


class Texts:
    """How long the texts of a system are.

    The answers of a foundation model are taken to be as long as the longest that it is taught, those of other models,
    of which nothing is known, to be `max_new_tokens` long.
    """

    def __init__(self, benchmark: Any, made: Mapping[str, Made], inputs: Mapping[str, Input]):
        self.benchmark, self.made, self.inputs = benchmark, made, inputs
        self.nodes = {node.name: node for node in benchmark.nodes}

    def made_for(self, name: str) -> Made | None:
        """The foundation model that a component takes, if it takes one."""
        return self.made.get(self._own(name)[0]) if self._settings(name).model is None else None

    def _settings(self, name: str) -> LanguageModelSettings:
        return self.benchmark.components[name]

    def typical(self, name: str) -> Lengths:
        """As usual in a batch of a component, which is padded to its longest."""
        return self._longest_node(name, typical=True)

    def longest(self, name: str) -> Lengths:
        """With the longest prompt of all."""
        return self._longest_node(name, typical=False)

    def conversation(self, *, typical: bool) -> int:
        """Tokens of the inputs with what comes out at the end: what judges of texts read."""
        given = [each.typical if typical else each.longest for each in self.inputs.values()]
        parents = {parent for node in self.nodes.values() for parent in node.parents}
        outputs = [node.component for node in self.nodes.values() if node.name not in parents]
        answers = [self._answer(name) for name in outputs if name in self._language_models]
        return CHAT_TOKENS + sum(each if isinstance(each, int) else _words(each) for each in given) + sum(answers)

    @property
    def _language_models(self) -> set[str]:
        parts = self.benchmark.components.items()
        return {name for name, settings in parts if isinstance(settings, LanguageModelSettings)}

    def _longest_node(self, name: str, *, typical: bool) -> Lengths:
        found = [self._lengths(name, node, typical) for node in self.nodes.values() if node.component == name]
        return max(found, key=lambda lengths: lengths.prompt)

    def _lengths(self, name: str, node: Node, typical: bool) -> Lengths:
        settings, given = self._settings(name), range(len(node.parents) if node.template is None else 1)
        template = settings.template or self._own(name)[1] or " ".join(f"{{{n}}}" for n in given)
        system = settings.system_prompt
        if system is None:
            system = SYSTEM_PROMPT if isinstance(self.benchmark, PictureSeries) else ""
        values = {parent: self._value(name, parent, typical) for parent in node.parents}
        tokens = dict(zip(map(str, range(len(values))), values.values(), strict=True))
        if node.template is not None:
            parts = [(literal, field) for literal, field, *_ in Formatter().parse(node.template)]
            tokens = {"0": sum(self._count(name, text) + values.get(str(field), 0) for text, field in parts)}
        made = self.made_for(name)
        around = len(made.tokenizer("")["input_ids"]) if made and made.tokenizer else CHAT_TOKENS
        prompt, shared, common = around, 0, True
        for literal, field, *_ in [*Formatter().parse(system), *Formatter().parse(template)]:
            prompt += self._count(name, literal) + (tokens[field] if field is not None else 0)
            shared += self._count(name, literal) if common else 0
            common = common and field is None
        return Lengths(shared if shared >= WORTH_SHARING else 0, prompt, self._answer(name))

    def _value(self, reader: str, variable: str, typical: bool) -> int:
        """The tokens of a variable to the component that reads it."""
        if variable in self.inputs:
            given = self.inputs[variable].typical if typical else self.inputs[variable].longest
            return self._count(reader, given) if isinstance(given, str) else given
        node = self.nodes[variable]
        if node.component in self._language_models:
            return self._answer(node.component)
        # A function is taken to give no more than it gets.
        return max(self._value(reader, parent, typical) for parent in node.parents)

    def _answer(self, name: str) -> int:
        made, most = self.made_for(name), self._settings(name).max_new_tokens
        return min(most, made.longest_answer) if made and made.longest_answer else most

    def _count(self, name: str, text: str) -> int:
        made = self.made_for(name)
        if made and made.tokenizer:
            return len(made.tokenizer(text, add_special_tokens=False)["input_ids"])
        return _words(text)

    def _own(self, name: str) -> tuple[str, str | None]:
        """The foundation model and the prompt's template that a component has where none are given."""
        if isinstance(self.benchmark, ProgressiveImages):
            return name, "{0}" + (PROMPT_END if self._settings(name).model is None else "")
        world = getattr(self.benchmark, "world", None)
        return world.default_components[name] if world else (name, None)


def _words(text: str) -> int:
    return math.ceil(TOKENS_A_WORD * len(text.split()))
