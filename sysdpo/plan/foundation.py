"""The models that the workflow makes itself, as they will be: without weights, and with what making them takes.

They are found by the class of their system or its world; a new one needs a function here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sysdpo.applications.answers.cities import Cities
from sysdpo.applications.answers.settings import FirstSettings, SecondSettings, SolverSettings
from sysdpo.applications.answers.solvers import STEP_WORDS, taught_answer, taught_draft
from sysdpo.applications.answers.sums import Sums
from sysdpo.applications.answers.sums_language import FIRST_TEMPLATE, LARGEST, SECOND_TEMPLATE, Question, answer
from sysdpo.applications.answers.sums_language import SEPARATOR as BETWEEN_TOTALS
from sysdpo.applications.images.autoencoder import PatchAutoencoder
from sysdpo.applications.images.grammar import (
    ATTRIBUTES,
    CAPTIONS,
    PROMPT_END,
    SCENES,
    SEPARATOR,
    contents,
    nth_caption,
    requests,
)
from sysdpo.applications.images.painter import CAPTION_LENGTH, _untrained_pipeline
from sysdpo.applications.images.progressive_images import ProgressiveImages
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.settings import PainterSettings, RegressorSettings, WriterSettings
from sysdpo.applications.images.world import answer as written
from sysdpo.applications.small_llama import MAX_LENGTH, small_llama
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.settings import typed
from sysdpo.plan.meter import NOTHING, Meter, Usage, reserve_gradients
from sysdpo.plan.models import Pipeline, config_folder, language_network, networks_of, trainable, weight_bytes
from sysdpo.plan.repeats import Say

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Made:
    """A foundation model; `build` gives its networks anew, on the meta device, in float32.

    loss: of one batch of its pretraining, of which it takes `steps`; None where it comes pretrained. averaged: whether
    an average of the weights is kept beside them. rows: in a batch, of `tokens` or of an image of `size` pixels a side.
    tokenizer, longest_answer: of a language model; the latter in tokens, the end token included. taught: what it is
    taught to say, given a random generator and what it is asked.
    """

    build: Callable[[], Any]
    loss: Callable[[Any], Tensor] | None = None
    steps: int = 0
    averaged: bool = False
    rows: int = 0
    tokens: int = 0
    size: int | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    longest_answer: int | None = None
    taught: Callable[..., str] | None = None

    def making(self) -> tuple[Usage, float]:
        """All of its pretraining, and the bytes it needs at once."""
        network = self.build()
        networks = networks_of(network)
        weights = weight_bytes(*networks)
        if self.loss is None:
            return NOTHING, weights
        reserve_gradients(*networks)
        with torch.device("meta"), Meter() as meter, meter.phase() as step:
            self.loss(network).backward()
        trained = FLOAT * trainable(*networks)
        # Gradients and AdamW's two averages, and perhaps one of the weights.
        return step[0].times(self.steps), weights + (4 if self.averaged else 3) * trained + step[0].peak


def made_models(benchmark: Any, settings: Mapping[str, Any]) -> dict[str, Made]:
    """The foundation models of a system, by name; none for a system that is not known here."""
    foundation = settings.get("foundation") or {}
    if isinstance(benchmark, ProgressiveImages):
        return {
            "writer": _writer(benchmark.writer),
            "painter": _painter(benchmark.painter),
            "regressor": _regressor(benchmark.regressor),
        }
    world = getattr(benchmark, "world", None)
    if isinstance(world, Sums):
        first = typed(FirstSettings, foundation.get("first"), "foundation.first")
        second = typed(SecondSettings, foundation.get("second"), "foundation.second")
        return {"first": _first(first, world.known), "second": _second(second, world.known)}
    if isinstance(world, Cities):
        folder = config_folder(SMOLLM2, "foundation.smollm2")
        return {"smollm2": Made(partial(language_network, folder, "float32"))}
    return {}


def says_of(benchmark: Any, made: Mapping[str, Made]) -> dict[str, Say]:
    """What the components of a system say, as far as it is known: those that are taught, and parsers."""
    says = {name: made[name].taught for name in made if name in benchmark.components and made[name].taught}
    if isinstance(benchmark, ProgressiveImages):
        says |= {f"parser_{n}": partial(_nth_caption, n - 1) for n in (1, 2, 3)}
    return {name: say for name, say in says.items() if say and _takes_own(benchmark, name)}


def _takes_own(benchmark: Any, name: str) -> bool:
    return name not in benchmark.components or benchmark.components[name].model is None


def _nth_caption(index: int, rng: np.random.Generator, answered: str) -> str:
    return nth_caption(answered, index)


def _writer(settings: WriterSettings) -> Made:
    asked = {request.text: request for request in requests(contents(SCENES))}
    captions = 3 * max(len(caption.split()) for caption in CAPTIONS) + 2 * len(SEPARATOR.split())
    prompts = [text + PROMPT_END for text in asked]
    made = _language(settings, [*prompts, SEPARATOR, *CAPTIONS], prompts, captions + 1)
    return replace(made, taught=lambda rng, text: written(asked[text], settings, rng))


def _first(settings: FirstSettings, known: list[Question]) -> Made:
    asked = {question.text: question for question in known}
    prompts = [FIRST_TEMPLATE.format(text) for text in asked]
    made = _language(settings, [*prompts, *STEP_WORDS], prompts, len(_DRAFT.split()) + 1)
    return replace(made, taught=lambda rng, text: taught_draft(asked[text], settings, rng))


def _second(settings: SecondSettings, known: list[Question]) -> Made:
    words = [*STEP_WORDS, BETWEEN_TOTALS, SECOND_TEMPLATE.format("", "")]
    prompts = [SECOND_TEMPLATE.format(question.text, _DRAFT) for question in known]
    made = _language(settings, words, prompts, len(answer((LARGEST, LARGEST)).split()) + 1)
    return replace(made, taught=lambda rng, text, steps: taught_answer(steps, settings, rng))


_DRAFT = "7 up 2 down 3"


def _language(settings: WriterSettings | SolverSettings, words: list[str], asked: list[str], longest: int) -> Made:
    tokenizer = make_tokenizer(words, template="<s> $A", max_length=MAX_LENGTH)
    tokens = max(len(tokenizer(text)["input_ids"]) for text in asked) + longest

    def build() -> nn.Module:
        with torch.device("meta"):
            shape = {"width": settings.width, "layers": settings.layers}
            return small_llama(tokenizer, **shape, initializer_range=settings.initializer_range)

    def loss(model: nn.Module) -> Tensor:
        input_ids = torch.zeros(settings.batch_size, tokens, dtype=torch.long)
        return model(input_ids=input_ids, labels=input_ids).loss

    made = Made(build, loss, settings.steps, rows=settings.batch_size, tokens=tokens)
    return replace(made, tokenizer=tokenizer, longest_answer=longest)


def _painter(settings: PainterSettings) -> Made:
    def build() -> Pipeline:
        with torch.device("meta"):
            made = _untrained_pipeline(settings, PatchAutoencoder(components=settings.components))
        networks = {"transformer": made.transformer, "text_encoder": made.text_encoder, "vae": made.vae}
        return Pipeline(networks, made.scheduler, CAPTION_LENGTH)

    def loss(pipeline: Pipeline) -> Tensor:
        side = settings.size // pipeline.pixels_per_latent
        clean = torch.empty(settings.batch_size, settings.components, side, side)
        text = pipeline.networks["text_encoder"](torch.zeros(len(clean), CAPTION_LENGTH, dtype=torch.long))
        prediction = pipeline.denoiser(
            hidden_states=torch.randn_like(clean),
            timestep=torch.zeros(len(clean)),
            encoder_hidden_states=text.last_hidden_state,
            pooled_projections=text.pooler_output,
        ).sample
        return ((prediction - clean) ** 2).mean()

    return Made(build, loss, settings.steps, averaged=True, rows=settings.batch_size, size=settings.size)


def _regressor(settings: RegressorSettings) -> Made:
    def build() -> nn.Module:
        with torch.device("meta"):
            return AttributeRegressor(ATTRIBUTES)

    def loss(regressor: nn.Module) -> Tensor:
        pixels = torch.empty(settings.batch_size, 3, settings.size, settings.size)
        return (regressor(pixels) ** 2).mean()

    return Made(build, loss, settings.steps, averaged=True, rows=settings.batch_size, size=settings.size)
