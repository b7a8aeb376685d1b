"""What the crew's models are pretrained on, with their deliberate flaws."""

from collections.abc import Collection, Sequence

import numpy as np

from sysdpo.applications.crew.language import MEANINGS, PAINTED_WRONG, Request, exact, taken_for, vague
from sysdpo.applications.crew.settings import CrewPainterSettings, CrewWriterSettings
from sysdpo.applications.images.grammar import ATTRIBUTES, LEVELS, Scene
from sysdpo.applications.images.renderer import render
from sysdpo.applications.images.world import NEUTRAL, Pictures
from sysdpo.base.seeds import numpy_generator


def captioned(request: Request, settings: CrewWriterSettings, rng: np.random.Generator) -> str:
    """A caption from the writer's training data, in either dialect."""
    return exact(request.scene, request.pole) if rng.random() < settings.exact else vague(request.scene)


def training_pictures(settings: CrewPainterSettings, scenes: Collection[Scene], seed: int) -> Pictures:
    """The painter's training pictures: cats of these scenes, captioned in either dialect.

    A vague caption's pictures show one pole as often as the other.
    """
    rng = numpy_generator("crew's pictures", seed)
    known = [text for text, meaning in MEANINGS.items() if meaning.scene in scenes]
    captions = [known[index] for index in rng.integers(len(known), size=settings.images)]
    meanings = [MEANINGS[text] for text in captions]
    drawn = [
        taken_for(int(rng.choice(meaning.poles)), meaning.scene[0], PAINTED_WRONG, rng.random() < settings.misread)
        if meaning.is_exact
        else int(rng.choice(meaning.poles))
        for meaning in meanings
    ]
    levels = [LEVELS[rank] for rank in drawn]
    images, attributes = pictures_of([meaning.scene for meaning in meanings], levels, 0.02, settings.size, rng)
    return Pictures(images, captions, attributes)


def pictures_of(
    scenes: Sequence[Scene], levels: Sequence[float], spread: float, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rendered cats at these levels, give or take the `spread`: uint8 `[n, size, size, 3]`, and attributes `[n, 3]`."""
    attributes = np.tile([NEUTRAL[name] for name in ATTRIBUTES], (len(scenes), 1))
    columns = [ATTRIBUTES.index(attribute) for attribute, _, _ in scenes]
    attributes[np.arange(len(scenes)), columns] = levels
    attributes = np.clip(attributes + rng.normal(0, spread, attributes.shape), 0, 1)
    _, furs, scarves = ([*names] for names in zip(*scenes, strict=True))
    return render(attributes, furs, scarves, size=size), attributes
