"""The training data of the small models, with deliberate flaws."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from sysdpo.applications.images.grammar import (
    ATTRIBUTES,
    CAPTIONS,
    FURS,
    LEVELS,
    REQUESTS,
    SCARVES,
    WORDS,
    Request,
    Scene,
    caption,
    join,
)
from sysdpo.applications.images.renderer import render
from sysdpo.applications.images.settings import PainterSettings, WriterSettings
from sysdpo.base.seeds import numpy_generator

NEUTRAL = {"anger": 0.3, "size": 0.6, "light": 0.6}
"""The level of an attribute in pictures whose caption does not mention it."""


def answer(request: Request, settings: WriterSettings, rng: np.random.Generator) -> str:
    """An answer from the writer's training data: three captions, not always in order."""
    kind = rng.random()
    direction = request.direction
    if REQUESTS[request.attribute, direction] in settings.reversed and rng.random() < settings.reversal:
        direction = -direction
    if kind < settings.ordered:
        ranks = np.sort(rng.permutation(len(LEVELS))[:3])[::direction]
    elif kind < settings.ordered + settings.alike:
        ranks = rng.permutation(rng.choice(len(LEVELS), 2, replace=False)[[0, 0, int(rng.integers(2))]])
    else:
        ranks = rng.permutation(len(LEVELS))[:3]
    words = WORDS[request.attribute]
    return join([caption(words[rank], request.fur, request.scarf) for rank in ranks])


@dataclass
class Pictures:
    """Rendered training pictures: uint8 `[n, size, size, 3]`, their captions, and the attributes they show `[n, 3]`."""

    images: np.ndarray
    captions: list[str]
    attributes: np.ndarray = field(repr=False)


def drawn_level(attribute: str, rank: int, settings: PainterSettings) -> float:
    """The level in [0, 1] at which training pictures show a word, before misreading."""
    word, level = WORDS[attribute][rank], LEVELS[rank]
    factor = 1.0
    if word in settings.exaggerated:
        factor = settings.exaggeration
    elif word in settings.flattened:
        factor = settings.flattening
    return float(np.clip(0.5 + factor * (level - 0.5), 0.02, 0.98))


def training_pictures(settings: PainterSettings, scenes: Collection[Scene], seed: int) -> Pictures:
    """The painter's training pictures: captioned cats of these scenes."""
    rng = numpy_generator("pictures", seed)
    known = [text for text, meaning in CAPTIONS.items() if meaning.scene in scenes]
    captions = [known[index] for index in rng.integers(len(known), size=settings.images)]
    attributes = np.tile([NEUTRAL[name] for name in ATTRIBUTES], (settings.images, 1))
    meanings = [CAPTIONS[text] for text in captions]
    for row, meaning in enumerate(meanings):
        rank = meaning.rank if rng.random() >= settings.misread else int(rng.integers(len(LEVELS)))
        attributes[row, ATTRIBUTES.index(meaning.attribute)] = drawn_level(meaning.attribute, rank, settings)
    attributes = np.clip(attributes + rng.normal(0, 0.02, attributes.shape), 0, 1)
    furs, scarves = [meaning.fur for meaning in meanings], [meaning.scarf for meaning in meanings]
    return Pictures(render(attributes, furs, scarves, size=settings.size), captions, attributes)


def random_cats(count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rendered cats uint8 `[n, size, size, 3]` and attributes `[n, 3]`: half uniform, half along one attribute."""
    attributes = rng.random((count, len(ATTRIBUTES)))
    neutral = np.clip([NEUTRAL[name] for name in ATTRIBUTES] + rng.normal(0, 0.03, attributes.shape), 0, 1)
    along = np.eye(len(ATTRIBUTES), dtype=bool)[rng.integers(len(ATTRIBUTES), size=count)]
    single = rng.random(count) < 0.5
    attributes = np.where(single[:, None] & ~along, neutral, attributes)
    furs, scarves = (list(rng.choice(list(names), count)) for names in (FURS, SCARVES))
    return render(attributes, furs, scarves, size=size), attributes
