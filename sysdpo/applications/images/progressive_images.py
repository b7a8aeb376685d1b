"""Application 1 of the paper: "draw a cat getting progressively angrier".

A language model writes three captions, a diffusion model draws them; a deterministic parser lies between the two.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sysdpo.applications.images.grammar import (
    ATTRIBUTES,
    CAPTIONS,
    FURS,
    LEVELS,
    PROMPT_END,
    SCARVES,
    SCENES,
    WORDS,
    Request,
    caption,
    content_of,
    contents,
    is_well_formed,
    nth_caption,
    requests,
)
from sysdpo.applications.images.graph import IMAGES, NODES
from sysdpo.applications.images.nearest_render import nearest_render
from sysdpo.applications.images.regressor import AttributeRegressor
from sysdpo.applications.images.series_scorer import as_rise, is_ordered, preference_score
from sysdpo.applications.images.settings import ProgressiveImages, painter_arguments
from sysdpo.applications.images.shown import COMPONENTS, METRICS, PICTURES, READ_OUT, SECOND_JUDGE
from sysdpo.applications.images.world import random_cats
from sysdpo.applications.questions import draw_prompts, split
from sysdpo.base.files import require_columns
from sysdpo.base.seeds import numpy_generator
from sysdpo.base.settings import without
from sysdpo.method.component import Component
from sysdpo.method.description import Description, Metric, Quality
from sysdpo.method.function import Function
from sysdpo.method.system import System

DESCRIPTION = Description(
    title="Progressive images",
    story=(
        "Asked for a cat that gets progressively angrier, a language model (the writer) writes three "
        "captions and a diffusion model (the painter) draws one image for each. Neither is perfect: the "
        "writer often gives its captions in the wrong order or all alike, and the painter misreads some "
        "of the words. Nobody says which of the two is to blame. All they learn from is which of two "
        "finished picture series is the better one."
    ),
    components=COMPONENTS,
    metrics={
        **METRICS,
        "image_distance": Metric("Image distance", False, "", 3, "distance to the nearest clean render: image quality"),
        **READ_OUT,
    },
    headline=("order_consistency", "order_consistency_greedy", "preference_score"),
    table=(
        *("order_consistency", "order_consistency_greedy", "preference_score", "readout_order_consistency"),
        *("well_formed", "well_formed_greedy", "image_distance", "kl_writer", "kl_painter"),
    ),
    checks=("well_formed", "image_distance"),
    second_judge=SECOND_JUDGE,
    pictures=PICTURES,
    quality=Quality(
        "How well the regressor that judges the images does: R² on images it never saw",
        "attribute",
        {"rendered images": "regressor_r2_rendered", "generated images": "regressor_r2_generated"},
    ),
)


class ProgressiveImagesBenchmark:
    """Prompt -> writer -> three captions -> painter -> three images."""

    inputs = ("text",)
    nodes = NODES
    description = DESCRIPTION

    def __init__(self, settings: ProgressiveImages, where: str):
        self.settings, self.where = settings, where
        self.size = settings.foundation.painter.size
        self.scenes = split(SCENES, settings.prompts.unseen)
        self.components = settings.components.fields
        self.foundations = {
            "writer": self._make_writer,
            "painter": self._make_painter,
            "regressor": self._make_regressor,
        }

    # The model libraries take seconds to import, so only the steps that need one import it.

    def _make_writer(self, seed: int, folder: Path) -> None:
        from sysdpo.applications.images.writer import make_writer

        make_writer(self.settings.foundation.writer, requests(contents(self.scenes[0])), seed, folder)

    def _make_painter(self, seed: int, folder: Path) -> None:
        from sysdpo.applications.images.painter import make_painter

        make_painter(self.settings.foundation.painter, set(self.scenes[0]), seed, folder)

    def _make_regressor(self, seed: int, folder: Path) -> None:
        from sysdpo.applications.images.regressor_fitting import make_judges

        make_judges(self.settings.foundation.regressor, self.size, seed, folder)

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, content, text, attribute, direction, fur, scarf`.

        A content is a scene and a direction, and occurs in one split only; held-out prompts ask for scenes that occur
        neither in pretraining nor in training.
        """

        def row(request: Request) -> dict[str, Any]:
            scene = request.attribute, request.fur, request.scarf
            return {"content": content_of(scene, request.direction)} | vars(request)

        known, unseen = (contents(scenes) for scenes in self.scenes)
        settings = without(self.settings.prompts.fields, ["unseen"])
        return draw_prompts(known, unseen, requests, row, **settings)

    def system(self, foundation: Path) -> System:
        """The system, with each component loaded from its configured model or from `foundation`."""
        from sysdpo.components.diffusion import DiffusionModel
        from sysdpo.components.language import LanguageModel

        chosen = self.settings.components
        writer, painter = chosen.writer.arguments, painter_arguments(chosen.painter, foundation, self.size)
        writer["template"] = writer["template"] or "{0}" + (PROMPT_END if chosen.writer.model is None else "")
        components: dict[str, Component] = {
            "writer": LanguageModel.from_pretrained(writer.pop("model") or foundation / "writer", **writer),
            "painter": DiffusionModel.from_pretrained(**painter),
            **{f"parser_{n}": Function(partial(nth_caption, index=n - 1)) for n in (1, 2, 3)},
        }
        return System(self.inputs, self.nodes, components)

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """The preference score `q`, and `attribute_1..3`: the requested attribute of each image in [0, 1]."""
        require_columns(prompts, ("attribute", "direction"), "the table of prompts")
        require_columns(trajectories, IMAGES, "the table of trajectories")
        regressor = AttributeRegressor.load(foundation / "regressor")
        aligned = trajectories[["prompt_id"]].merge(prompts, on="prompt_id", how="left")
        values = np.stack([_select(regressor.score(trajectories[image].tolist()), aligned) for image in IMAGES], 1)
        rising = as_rise(values, aligned["direction"].to_numpy())
        scores = trajectories[["trajectory_id", "prompt_id"]].assign(score=preference_score(rising))
        return scores.assign(**{f"attribute_{n}": values[:, n - 1] for n in (1, 2, 3)})

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """See `DESCRIPTION`; the read-out is the nearest render's attribute, which no model was trained on."""
        aligned = trajectories[["prompt_id"]].merge(prompts, on="prompt_id", how="left")
        direction = aligned["direction"].to_numpy()
        rising = as_rise(scores[["attribute_1", "attribute_2", "attribute_3"]].to_numpy(), direction)
        nearest = nearest_render(foundation)
        looked_up = [nearest.look_up(trajectories[image].tolist()) for image in IMAGES]
        read_out = as_rise(np.stack([_select(attributes, aligned) for attributes, _ in looked_up], 1), direction)
        answers = zip(trajectories["captions"], aligned["attribute"], aligned["fur"], aligned["scarf"], strict=True)
        return pd.DataFrame(
            {
                "order_consistency": is_ordered(rising),
                "spread": rising[:, 2] - rising[:, 0],
                "well_formed": [float(is_well_formed(str(answer), *scene)) for answer, *scene in answers],
                "image_distance": np.mean([distance for _, distance in looked_up], 0),
                "readout_score": preference_score(read_out),
                "readout_order_consistency": is_ordered(read_out),
            }
        )

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """The regressor's R² on held-out renders and on generated images, the painter's words, the writer's order."""
        system, regressor = self.system(foundation).to(), AttributeRegressor.load(foundation / "regressor")
        nearest = nearest_render(foundation)
        rng = numpy_generator("inspection", seed)
        images, truth = random_cats(1000, self.size, rng)
        rendered = regressor.score([Image.fromarray(image) for image in images])
        cats = [(fur, list(SCARVES)[index % len(SCARVES)]) for index, fur in enumerate(list(FURS) * 4)]
        words = [(attribute, rank) for attribute in ATTRIBUTES for rank in range(len(LEVELS))]
        conditions = [(caption(WORDS[kind][rank], *cat),) for kind, rank in words for cat in cats]
        drawn = system.components["painter"].sample(conditions, seeds=range(len(conditions)))
        generated, (looked_up, distance) = regressor.score(drawn), nearest.look_up(drawn)
        levels, quality = [], {}
        for position, (kind, rank) in enumerate(words):
            rows = slice(position * len(cats), (position + 1) * len(cats))
            shown = generated[rows, ATTRIBUTES.index(kind)]
            closest = np.abs(shown[:, None] - np.array(LEVELS)).argmin(1)
            levels.append(
                {
                    "attribute": kind,
                    "word": WORDS[kind][rank],
                    "level_asked": LEVELS[rank],
                    "level_drawn_mean": float(shown.mean()),
                    "level_drawn_std": float(shown.std()),
                    "right_share": float((closest == rank).mean()),
                }
            )
        for column, kind in enumerate(ATTRIBUTES):
            speaks = np.array([CAPTIONS[text].attribute == kind for (text,) in conditions])
            quality[kind] = _r2(generated[speaks, column], looked_up[speaks, column])
        prompts = self.prompts().query("split == 'validation'")
        answers = system.components["writer"].sample([(text,) for text in prompts["text"]], seeds=range(len(prompts)))
        formed = [
            is_well_formed(str(answer), *scene)
            for answer, *scene in zip(answers, prompts["attribute"], prompts["fur"], prompts["scarf"], strict=True)
        ]
        ranks = [
            [direction * CAPTIONS[nth_caption(str(answer), n)].rank for n in range(3)]
            for answer, direction, good in zip(answers, prompts["direction"], formed, strict=True)
            if good
        ]
        return {
            "regressor_r2_rendered": {kind: _r2(rendered[:, n], truth[:, n]) for n, kind in enumerate(ATTRIBUTES)},
            "regressor_r2_generated": quality,
            "painter_levels": levels,
            "painter_image_distance": float(distance.mean()),
            "captions_sorted": float(np.mean([a < b < c for a, b, c in ranks])) if ranks else 0.0,
            "captions_tied": float(np.mean([len(set(row)) < 3 for row in ranks])) if ranks else 0.0,
            "well_formed": float(np.mean(formed)),
        }


def _select(attributes: np.ndarray, prompts: pd.DataFrame) -> np.ndarray:
    """The attribute that each row's prompt is about: `[n, attributes]` to `[n]`."""
    columns = prompts["attribute"].map(ATTRIBUTES.index).to_numpy()
    return attributes[np.arange(len(attributes)), columns]


def _r2(predicted: np.ndarray, truth: np.ndarray) -> float:
    return float(1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
