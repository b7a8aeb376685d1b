"""Pretraining the writer: a small Llama that answers a request with three captions, often in a poor order."""

from pathlib import Path

from sysdpo.applications.images.grammar import CAPTIONS, PROMPT_END, SCENES, SEPARATOR, Request, contents, requests
from sysdpo.applications.images.settings import WriterSettings
from sysdpo.applications.images.world import answer
from sysdpo.applications.small_llama import make_small_llama
from sysdpo.base.seeds import numpy_generator


def make_writer(settings: WriterSettings, known: list[Request], seed: int, folder: Path) -> None:
    """Pretrain the writer on `known` requests; save it to `folder`."""
    rng = numpy_generator("writer", seed)
    words = [request.text for request in requests(contents(SCENES))] + [SEPARATOR + PROMPT_END, *CAPTIONS]
    sample = [known[index] for index in rng.integers(len(known), size=settings.answers)]
    pairs = [(request.text + PROMPT_END, answer(request, settings, rng)) for request in sample]
    make_small_llama("writer", settings, words, pairs, seed, rng, folder)
