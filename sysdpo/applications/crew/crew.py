"""A crew: a language model writes a caption, a diffusion model draws it, a vision-language model checks the picture.

The checker reads the caption and sees the picture; people judge the picture and the verdict together.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.applications.crew.language import (
    ATTRIBUTES,
    MEANINGS,
    POLES,
    PROMPT_END,
    SCENES,
    SHOWN,
    VERDICT,
    Request,
    content_of,
    contents,
    exact,
    is_well_formed,
    passes,
    requests,
    vague,
)
from sysdpo.applications.crew.settings import Crew
from sysdpo.applications.images.grammar import ATTRIBUTES as ALL_ATTRIBUTES
from sysdpo.applications.images.grammar import LEVELS, WORDS, Scene
from sysdpo.applications.images.nearest_render import nearest_render
from sysdpo.applications.images.settings import painter_arguments
from sysdpo.applications.questions import draw_prompts, split
from sysdpo.base.files import require_columns
from sysdpo.base.seeds import numpy_generator
from sysdpo.method.component import Component
from sysdpo.method.description import Description, Metric, Pictures, SecondJudge, Texts
from sysdpo.method.system import Node, System

NODES = (
    Node("caption", "writer", ("text",)),
    Node("image", "painter", ("caption",)),
    Node("verdict", "checker", ("caption", "image")),
)
PICTURE, VERDICT_TRUE = 2 / 3, 1 / 3
"""What a right picture and a verdict that is true of the request count in the score."""

DESCRIPTION = Description(
    title="Crew",
    story=(
        "Asked for a cat, a language model (the writer) writes a caption, a diffusion model (the painter) draws it, "
        "and a vision-language model (the checker) reads the caption, sees the picture, and passes it or not. The "
        "writer often leaves open what was asked for; the painter draws two words of four half-heartedly, and the "
        "checker mostly takes two for their opposites, one of them the same. People see the request, the picture and "
        "the verdict, and nobody says who is to blame: a right picture counts most, a true verdict besides."
    ),
    components={"writer": "the writer", "painter": "the painter", "checker": "the checker"},
    metrics={
        "delivered": Metric("Delivered", True, "%", 1, "share of requests whose picture is right and is passed"),
        "picture_right": Metric("Picture right", True, "%", 1, "share of pictures that show what was asked for"),
        "verdict_right": Metric("Verdict right", True, "%", 1, "share of verdicts that are true of the request"),
        "exact": Metric("Exact", True, "%", 1, "share of captions that name what was asked for", is_goal=False),
        "well_formed": Metric("Well-formed", True, "%", 1, "share of captions that are grammatical and to the point"),
        "image_distance": Metric("Image distance", False, "", 3, "distance to the nearest clean render: image quality"),
        "readout_delivered": Metric(
            "Read-out delivered", True, "%", 1, "the same by a read-out of the picture that trained nothing"
        ),
    },
    headline=("delivered", "delivered_greedy"),
    table=(
        *("delivered", "delivered_greedy", "readout_delivered", "picture_right", "verdict_right", "exact"),
        *("well_formed", "image_distance", "kl_writer", "kl_painter", "kl_checker"),
    ),
    checks=("well_formed", "image_distance"),
    second_judge=SecondJudge(
        "delivered",
        "readout_delivered",
        "The same regressor labels the training pairs and judges the result, so a second read-out that trained nothing "
        "judges too",
    ),
    pictures=Pictures(("image",), ("said",), ("level",), "attribute", right="delivered"),
    texts=Texts({"Caption": "caption", "Verdict": "verdict"}),
)


class CrewBenchmark:
    """Request -> caption -> picture -> verdict."""

    inputs = ("text",)
    nodes = NODES
    outputs = ("image", "verdict")
    description = DESCRIPTION

    def __init__(self, settings: Crew, where: str):
        self.settings, self.where = settings, where
        self.size = settings.foundation.painter.size
        self.scenes: tuple[list[Scene], list[Scene]] = split(SCENES, settings.unseen)
        self.components = settings.components.fields
        self.foundations = {
            "writer": self._make_writer,
            "painter": self._make_painter,
            "checker": self._make_checker,
            "regressor": self._make_regressor,
        }

    # The model libraries take seconds to import, so only the steps that need one import it.

    def _make_writer(self, seed: int, folder: Path) -> None:
        from sysdpo.applications.crew.writer import make_writer

        make_writer(self.settings.foundation.writer, requests(contents(self.scenes[0])), seed, folder)

    def _make_painter(self, seed: int, folder: Path) -> None:
        from sysdpo.applications.crew.world import training_pictures
        from sysdpo.applications.images.painter import fit_painter

        settings = self.settings.foundation.painter
        fit_painter(settings, training_pictures(settings, set(self.scenes[0]), seed), MEANINGS, seed, folder)

    def _make_checker(self, seed: int, folder: Path) -> None:
        from sysdpo.applications.crew.checker import make_checker

        make_checker(self.settings.foundation.checker, self.scenes[0], self.size, seed, folder)

    def _make_regressor(self, seed: int, folder: Path) -> None:
        from sysdpo.applications.images.regressor_fitting import make_judges

        make_judges(self.settings.foundation.regressor, self.size, seed, folder)

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, content, text, attribute, fur, scarf, pole`.

        A content is a scene and a pole, and occurs in one split only; held-out prompts ask for scenes that occur
        neither in pretraining nor in training.
        """

        def row(request: Request) -> dict[str, Any]:
            return {"content": content_of(request.scene, request.pole)} | vars(request)

        known, unseen = (contents(scenes) for scenes in self.scenes)
        return draw_prompts(known, unseen, requests, row, **self.settings.prompts.fields)

    def system(self, foundation: Path) -> System:
        """The system, with each component loaded from its configured model or from `foundation`."""
        from sysdpo.components.diffusion import DiffusionModel
        from sysdpo.components.language import LanguageModel
        from sysdpo.components.vision_language import VisionLanguageModel

        chosen = self.settings.components
        writer, checker = chosen.writer.arguments, chosen.checker.arguments
        writer["template"] = writer["template"] or "{0}" + PROMPT_END
        checker["template"] = checker["template"] or VERDICT
        painter = painter_arguments(chosen.painter, foundation, self.size)
        components: dict[str, Component] = {
            "writer": LanguageModel.from_pretrained(writer.pop("model") or foundation / "writer", **writer),
            "painter": DiffusionModel.from_pretrained(**painter),
            "checker": VisionLanguageModel.from_pretrained(checker.pop("model") or foundation / "checker", **checker),
        }
        return System(self.inputs, self.nodes, components, self.outputs)

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """`PICTURE` for a right picture and `VERDICT_TRUE` for a verdict that is true of the request.

        Besides `level`, the asked attribute of the picture in [0, 1]; `picture_right`, `passed` and `delivered`, 0 or
        1; and `said`, caption and verdict.
        """
        from sysdpo.applications.images.regressor import AttributeRegressor

        require_columns(prompts, ("attribute", "pole"), "the table of prompts")
        require_columns(trajectories, ("image", "caption", "verdict"), "the table of trajectories")
        regressor = AttributeRegressor.load(foundation / "regressor")
        asked = _asked(prompts, trajectories)
        level = _select(regressor.score(trajectories["image"].tolist()), asked)
        right, passed = _nearest(level) == asked["pole"].to_numpy(), _passed(trajectories)
        both = zip(trajectories["caption"], trajectories["verdict"], strict=True)
        said = [f"{caption} : {verdict}" for caption, verdict in both]
        return trajectories[["trajectory_id", "prompt_id"]].assign(
            score=PICTURE * right + VERDICT_TRUE * (right == passed),
            level=np.clip(level, 0, 1),
            picture_right=right.astype(float),
            passed=passed.astype(float),
            delivered=(right & passed).astype(float),
            said=said,
        )

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """See `DESCRIPTION`; the read-out is the nearest render's attribute, which no model was trained on."""
        asked = _asked(prompts, trajectories)
        attributes, distance = nearest_render(foundation).look_up(trajectories["image"].tolist())
        seen = _nearest(_select(attributes, asked)) == asked["pole"].to_numpy()
        captions = [str(caption) for caption in trajectories["caption"]]
        scenes = list(zip(asked["attribute"], asked["fur"], asked["scarf"], strict=True))
        formed = [is_well_formed(*row) for row in zip(captions, scenes, asked["pole"], strict=True)]
        named = [said.strip() in MEANINGS and MEANINGS[said.strip()].is_exact for said in captions]
        return pd.DataFrame(
            {
                "delivered": scores["delivered"].to_numpy(),
                "picture_right": scores["picture_right"].to_numpy(),
                "verdict_right": (scores["picture_right"] == scores["passed"]).to_numpy(float),
                "exact": np.array(named, float),
                "well_formed": np.array(formed, float),
                "image_distance": distance,
                "readout_delivered": (seen & _passed(trajectories)).astype(float),
            }
        )

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """What each model does with either dialect, by what is asked for, on scenes that it has not seen."""
        from sysdpo.applications.images.regressor import AttributeRegressor

        system, regressor = self.system(foundation).to(), AttributeRegressor.load(foundation / "regressor")
        rng = numpy_generator("inspection", seed)
        scenes = [self.scenes[1][index] for index in rng.choice(len(self.scenes[1]), 60, replace=False)]
        wanted = contents(scenes)
        asked = requests(wanted)[:: len(requests(wanted[:1]))]
        seeds = range(len(wanted))
        captions = [
            str(said)
            for said in system.components["writer"].sample([(it.text + PROMPT_END,) for it in asked], seeds=seeds)
        ]
        quality = {
            "writer_exact": float(np.mean([said in MEANINGS and MEANINGS[said].is_exact for said in captions])),
            "writer_well_formed": float(
                np.mean([is_well_formed(said, *content) for said, content in zip(captions, wanted, strict=True)])
            ),
        }
        columns = np.array([ALL_ATTRIBUTES.index(scene[0]) for scene, _ in wanted])
        poles = np.array([pole for _, pole in wanted])
        for name, texts in (
            ("exact", [exact(*content) for content in wanted]),
            ("vague", [vague(scene) for scene, _ in wanted]),
        ):
            pictures = system.components["painter"].sample([(text,) for text in texts], seeds=seeds)
            drawn = _nearest(regressor.score(pictures)[np.arange(len(wanted)), columns])
            verdicts = system.components["checker"].sample(list(zip(texts, pictures, strict=True)), seeds=seeds)
            passed = np.array([passes(str(verdict)) for verdict in verdicts])
            for attribute, pole in product(ATTRIBUTES, POLES):
                rows = (poles == pole) & (columns == ALL_ATTRIBUTES.index(attribute))
                about = f"{name}_{WORDS[attribute][pole]}"
                quality[f"painter_right_{about}"] = float((drawn == pole)[rows].mean())
                for right, told in ((True, "right"), (False, "wrong")):
                    seen = rows & ((drawn == pole) == right)
                    share = float(passed[seen].mean()) if seen.any() else float("nan")
                    quality[f"checker_passes_{told}_{about}"] = share
        return {name: value for name, value in quality.items() if value == value}


def _asked(prompts: pd.DataFrame, trajectories: pd.DataFrame) -> pd.DataFrame:
    """Each trajectory's prompt, in their order."""
    return trajectories[["prompt_id"]].merge(prompts, on="prompt_id", how="left")


def _select(attributes: np.ndarray, asked: pd.DataFrame) -> np.ndarray:
    """The attribute that each row's prompt is about: `[n, attributes]` to `[n]`."""
    return attributes[np.arange(len(attributes)), asked["attribute"].map(ALL_ATTRIBUTES.index).to_numpy()]


def _nearest(levels: np.ndarray) -> np.ndarray:
    """Which of the levels `SHOWN` is nearest: int64 `[n]`."""
    return np.array(SHOWN)[np.abs(levels[:, None] - np.array(LEVELS)[list(SHOWN)]).argmin(1)]


def _passed(trajectories: pd.DataFrame) -> np.ndarray:
    return np.array([passes(str(verdict)) for verdict in trajectories["verdict"]])
