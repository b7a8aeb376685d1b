"""Pretraining the writer: a small Llama that answers a request with three captions, often in a poor order."""

from pathlib import Path

from sysdpo.applications.images.grammar import CAPTIONS, PROMPT_END, SCENES, SEPARATOR, Request, contents, requests
from sysdpo.applications.images.settings import WriterSettings
from sysdpo.applications.images.world import answer
from sysdpo.applications.small_llama import MAX_LENGTH, fit_language, small_llama
from sysdpo.applications.tokenizer import make_tokenizer
from sysdpo.base.seeds import numpy_generator, seed_torch


def make_writer(settings: WriterSettings, known: list[Request], seed: int, folder: Path) -> None:
    """Pretrain the writer on `known` requests and save it to `folder`, in `from_pretrained` format."""
    seed_torch("writer", seed)
    rng = numpy_generator("writer", seed)
    words = [request.text for request in requests(contents(SCENES))] + [SEPARATOR + PROMPT_END, *CAPTIONS]
    tokenizer = make_tokenizer(words, template="<s> $A", max_length=MAX_LENGTH)
    model = small_llama(
        tokenizer, width=settings.width, layers=settings.layers, initializer_range=settings.initializer_range
    )
    asked = [known[index] for index in rng.integers(len(known), size=settings.answers)]
    pairs = [(request.text + PROMPT_END, answer(request, settings, rng)) for request in asked]
    fit_language(
        "writer",
        model,
        tokenizer,
        pairs,
        rng,
        folder,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
    )
