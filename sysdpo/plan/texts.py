"""Placeholders for a run's texts and pictures: of the same length or size, and all different.

Since pretrained models' answers are unknown, all are assumed to be different and to have `max_new_tokens`, the maximum.
"""

import itertools
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from sysdpo.components.diffusion import DiffusionModel
from sysdpo.components.language import LanguageModel
from sysdpo.components.weightless import KNOWN_TOKENS, TOKENS_A_WORD
from sysdpo.method.benchmark import Benchmark
from sysdpo.method.system import System, conditions_of
from sysdpo.method.values import Completion

CHARACTERS_A_TOKEN = 4
USUAL = (0.9, 1)  # quantiles of lengths: high, since a batch is padded to its longest, and the longest

_numbers = itertools.count()


def inputs_of(benchmark: Benchmark, described: Mapping[str, Any], assumed: int) -> tuple[bool, list[dict[str, str]]]:
    """Whether a system's inputs are known, and its typical and longest inputs.

    If their dataset is not on this machine, typical inputs are assumed to have `assumed` tokens together, and the
    longest as many as `max_prompt_characters` allows.
    """
    data = described.get("data") or {}
    if data and not any(isinstance(value, str) and Path(value).exists() for value in data.values()):
        most = max(assumed, data.get("max_prompt_characters", 0) // CHARACTERS_A_TOKEN)
        return False, [dict.fromkeys(benchmark.inputs, _text(n / len(benchmark.inputs))) for n in (assumed, most)]
    prompts = benchmark.prompts()
    ranked = {name: sorted(prompts[name].astype(str), key=lambda text: len(text.split())) for name in benchmark.inputs}
    return True, [{name: texts[int(share * (len(texts) - 1))] for name, texts in ranked.items()} for share in USUAL]


def trajectories(system: System, inputs: Mapping[str, str], prompts: int, samples: int = 1) -> dict[str, list[Any]]:
    """All variables' values: the first sample of each prompt, then the second of each, and so on."""
    numbers = list(itertools.islice(_numbers, prompts)) * samples
    values: dict[str, list[Any]] = {
        name: [f"{number} {text.partition(' ')[2]}" for number in numbers] for name, text in inputs.items()
    }
    for node in system.nodes:
        component = system.components[node.component]
        if isinstance(component, LanguageModel):
            values[node.name] = [_completion(component) for _ in numbers]
        elif isinstance(component, DiffusionModel):
            size = component.picture_size[::-1]
            values[node.name] = [Image.new("RGB", size, next(_numbers) % 2**24) for _ in numbers]
        else:
            values[node.name] = component.sample(conditions_of(node, values), seeds=numbers)
    return values


def _text(tokens: float, tokens_a_word: float = TOKENS_A_WORD) -> str:
    return " ".join([str(next(_numbers)), *["word"] * (round(tokens / tokens_a_word) - 1)])


def _completion(model: LanguageModel) -> Completion:
    known = min(KNOWN_TOKENS, model.model.get_input_embeddings().num_embeddings)
    number, length = next(_numbers), model.max_new_tokens
    tokens = (number // known % known, number % known, *[2] * length)
    return Completion(_text(length, _tokens_a_word(model.tokenizer)), tokens[:length])


@cache
def _tokens_a_word(tokenizer: Any) -> float:
    words = 20
    return len(tokenizer("word " * words, add_special_tokens=False)["input_ids"]) / words
