"""Pretraining the writer: a small Llama that answers a request with a caption, in either dialect."""

from pathlib import Path

from sysdpo.applications.crew.language import PROMPT_END, Request, words
from sysdpo.applications.crew.settings import CrewWriterSettings
from sysdpo.applications.crew.world import captioned
from sysdpo.applications.small_llama import make_small_llama
from sysdpo.base.seeds import numpy_generator


def make_writer(settings: CrewWriterSettings, known: list[Request], seed: int, folder: Path) -> None:
    """Pretrain the writer on `known` requests; save it to `folder`."""
    rng = numpy_generator("crew's writer", seed)
    sample = [known[index] for index in rng.integers(len(known), size=settings.captions)]
    pairs = [(request.text + PROMPT_END, captioned(request, settings, rng)) for request in sample]
    make_small_llama("writer", settings, words(), pairs, seed, rng, folder)
