"""Application 1 of the paper with pretrained models: three captions by an instruct model, three pictures of them.

The graph is that of `progressive_images`. Writer, painter and judges are hub ids or folders; none is made here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.applications.images.attributes import ATTRIBUTES as KNOWN_ATTRIBUTES
from sysdpo.applications.images.attributes import PHRASINGS, requests
from sysdpo.applications.images.captions import nth_of_three, read_captions
from sysdpo.applications.images.graph import IMAGES, NODES
from sysdpo.applications.images.series_scorer import as_rise, image_judge, is_ordered, preference_score
from sysdpo.applications.images.settings import ImageJudgeSettings, PictureSeries
from sysdpo.applications.images.shown import COMPONENTS, METRICS, PICTURES, READ_OUT, SECOND_JUDGE
from sysdpo.base.errors import UserError
from sysdpo.base.files import require_columns
from sysdpo.base.seeds import numpy_generator
from sysdpo.components.settings import DiffusionSettings, LanguageModelSettings
from sysdpo.method.benchmark import Judge
from sysdpo.method.component import Component
from sysdpo.method.description import Description, Metric
from sysdpo.method.function import Function
from sysdpo.method.system import System

WHERE = "systems.picture_series"
CAPTIONS = ("caption_1", "caption_2", "caption_3")
ATTRIBUTES = ("attribute_1", "attribute_2", "attribute_3")
NAMES = tuple(attribute.name for attribute in KNOWN_ATTRIBUTES)
UNUSED_SECTIONS = ("foundation", "questions", "data")

SYSTEM_PROMPT = """\
You write the captions from which an artist, who sees nothing else, draws a series of three pictures. Answer a \
request with exactly three numbered lines, one caption each, in the order of the pictures, and with nothing before or \
after them. Each caption describes its whole picture in one sentence of at most 25 words: name the subject in full and \
say plainly how much of what changes it shows. Never refer to the other pictures.

1. (the first picture)
2. (the second picture)
3. (the third picture)"""
"""The writer's default system prompt; our choice."""

DESCRIPTION = Description(
    title="Picture series",
    story=(
        "Asked for a series in which something gets steadily more (a cat angrier, a street more crowded) or less, "
        "a pretrained language model (the writer) writes three captions, and a pretrained diffusion model (the "
        "painter), which sees a caption alone, draws one image for each. Nobody says which of the two is to blame "
        "where a series does not rise: all they learn from is which of two finished series is the better one, by "
        "a frozen model that scores how much of what was asked for an image shows."
    ),
    components=COMPONENTS,
    metrics=METRICS,
    headline=("order_consistency", "preference_score"),
    table=("order_consistency", "preference_score", "well_formed", "kl_writer", "kl_painter"),
    checks=("well_formed",),
    pictures=PICTURES,
)
"""Without a second judge and without CLIP, which a configuration may add."""
FIDELITY = Metric(
    "Caption fidelity", True, "", 3, "cosine of each image with its own caption in CLIP's space, mean of the three"
)


class PictureSeriesBenchmark:
    """Prompt -> writer -> three captions -> painter -> three images."""

    inputs = ("text",)
    nodes = NODES

    def __init__(self, settings: PictureSeries, where: str):
        self.settings, self.where = settings, where
        self.scorer, self.judge = settings.scorer, settings.judge
        writer, painter = settings.components.writer, settings.components.painter
        prompts = {
            "template": writer.template or "{0}",
            "system_prompt": SYSTEM_PROMPT if writer.system_prompt is None else writer.system_prompt,
        }
        self.components: dict[str, LanguageModelSettings | DiffusionSettings] = {
            "writer": writer.changed(**prompts),
            "painter": painter,
        }
        self.foundations: dict[str, Callable[[int, Path], None]] = {}
        self.clips = [judge for judge in (self.judge, self.scorer) if judge is not None and judge.kind == "clip"]
        self.description = self._described()

    def _described(self) -> Description:
        """`DESCRIPTION` with the metrics of the configured judges."""
        metrics, table = dict(DESCRIPTION.metrics), list(DESCRIPTION.table)
        if self.judge is not None:
            metrics |= READ_OUT
            table.insert(2, SECOND_JUDGE.judge)
        if self.clips:
            metrics["caption_fidelity"] = FIDELITY
            table.insert(table.index("well_formed") + 1, "caption_fidelity")
        second = None if self.judge is None else SECOND_JUDGE
        return replace(DESCRIPTION, metrics=metrics, table=tuple(table), second_judge=second)

    def prompts(self) -> pd.DataFrame:
        """Columns `prompt_id, split, content, text, attribute, direction, subject, low, high, phrasing, unseen`.

        `low` and `high` are the scorer's texts of the attribute's poles. Half of the test split is `unseen`: its
        contents or phrasings occur only there. The other half and the other splits share the rest. Raises `UserError`
        if there are too few, or if a regressor's configuration lacks an attribute.
        """
        settings = self.settings.prompts
        attributes = settings.attributes or NAMES
        self._stop_if_unjudged(attributes)
        table = pd.DataFrame([vars(request) for request in requests() if request.attribute in attributes])
        rng = numpy_generator("prompts", settings.seed)
        content = table["attribute"] + " of " + table["subject"]
        contents = rng.permutation(content.unique())[: settings.unseen_contents]
        phrasings = rng.permutation(len(PHRASINGS))[: settings.unseen_phrasings]
        table = table.assign(unseen=content.isin(contents) | table["phrasing"].isin(phrasings))
        table = table.iloc[rng.permutation(len(table))]
        seen, unseen = table[~table["unseen"]], table[table["unseen"]]
        half = settings.test // 2 if len(unseen) else 0
        sizes = {"test": settings.test - half, "validation": settings.validation, "train": settings.train}
        if sum(sizes.values()) > len(seen) or half > len(unseen):
            raise UserError(
                f"{self.where}.prompts: of {len(table)} prompts {len(seen)} have neither an unseen content nor an "
                f"unseen phrasing, and train, validation and half of test should be at most that many; here they are "
                f"{settings.train}, {settings.validation} and {settings.test}"
            )
        table = pd.concat([unseen.head(half), seen.head(sum(sizes.values()))], ignore_index=True)
        splits = ["test"] * half + [name for name, size in sizes.items() for _ in range(size)]
        ways = table["direction"].map({1: "rising", -1: "falling"})
        table.insert(0, "content", table["attribute"] + " of " + table["subject"] + ", " + ways)
        table.insert(0, "split", splits)
        table.insert(0, "prompt_id", [f"p{row:04d}" for row in range(len(table))])
        return table

    def _stop_if_unjudged(self, attributes: Sequence[str]) -> None:
        for judge in filter(None, (self.scorer, self.judge)):
            if judge.attributes is not None and (unknown := sorted(set(attributes) - set(judge.attributes))):
                raise UserError(
                    f"{self.where}.prompts.attributes: {unknown} should be left out, since the regressor "
                    f"'{judge.model}' knows only {list(judge.attributes)}"
                )

    def system(self, foundation: Path) -> System:
        """The system with each model as configured; `foundation` is unused."""
        # The model libraries take seconds to import, so only the steps that need a model do.
        from sysdpo.components.diffusion import DiffusionModel
        from sysdpo.components.language import LanguageModel

        writer, painter = self.components["writer"].arguments, self.components["painter"].arguments
        components: dict[str, Component] = {
            "writer": LanguageModel.from_pretrained(writer.pop("model"), **writer),
            "painter": DiffusionModel.from_pretrained(painter.pop("model"), **painter),
            **{f"parser_{n}": Function(partial(nth_of_three, number=n)) for n in (1, 2, 3)},
        }
        return System(self.inputs, self.nodes, components)

    def loaded(self) -> Mapping[str, LanguageModelSettings | DiffusionSettings]:
        """The components as they are."""
        return self.components

    def judges(self) -> Mapping[str, Judge]:
        """The scorer and, if configured, the judge."""
        return {
            section: Judge(settings.model, settings.batch_size, settings.dtype)
            for section, settings in (("scorer", self.scorer), ("judge", self.judge))
            if settings is not None
        }

    def score(self, prompts: pd.DataFrame, trajectories: pd.DataFrame, foundation: Path) -> pd.DataFrame:
        """The preference score `q`, and `attribute_1..3`: each image's attribute, 0 for `low` to 1 for `high`."""
        aligned = _align(prompts, trajectories)
        values = _attributes(self.scorer, trajectories, aligned)
        score = preference_score(as_rise(values, aligned["direction"].to_numpy()))
        scores = trajectories[["trajectory_id", "prompt_id"]].assign(score=score)
        return scores.assign(**{name: values[:, column] for column, name in enumerate(ATTRIBUTES)})

    def metrics(
        self, prompts: pd.DataFrame, trajectories: pd.DataFrame, scores: pd.DataFrame, foundation: Path
    ) -> pd.DataFrame:
        """See `DESCRIPTION`. The read-out is the judge's; the caption fidelity is the judge's if it is a CLIP, else the
        scorer's if that is one.
        """
        aligned = _align(prompts, trajectories)
        direction = aligned["direction"].to_numpy()
        rising = as_rise(scores[list(ATTRIBUTES)].to_numpy(), direction)
        measured = {
            "order_consistency": is_ordered(rising),
            "spread": rising[:, 2] - rising[:, 0],
            "well_formed": [float(is_well_formed(str(answer))) for answer in trajectories["captions"]],
        }
        if self.judge is not None:
            read_out = as_rise(_attributes(self.judge, trajectories, aligned), direction)
            measured["readout_score"] = preference_score(read_out)
            measured["readout_order_consistency"] = is_ordered(read_out)
        if self.clips:
            with image_judge(self.clips[0]) as clip:
                similar = [
                    clip.similarity(trajectories[image].tolist(), trajectories[caption].tolist())
                    for image, caption in zip(IMAGES, CAPTIONS, strict=True)
                ]
            measured["caption_fidelity"] = np.mean(similar, 0)
        return pd.DataFrame(measured)

    def inspect(self, foundation: Path, seed: int) -> dict[str, Any]:
        """The share of validation prompts that the writer answers with three captions before alignment."""
        prompts = self.prompts().query("split == 'validation'")
        writer = self.system(foundation).to().components["writer"]
        answers = writer.sample([(text,) for text in prompts["text"]], seeds=range(seed, seed + len(prompts)))
        return {"well_formed": float(np.mean([is_well_formed(str(answer)) for answer in answers]))}


def is_well_formed(answer: str) -> bool:
    """Whether an answer has exactly three captions."""
    return len(read_captions(answer)) == 3


def _align(prompts: pd.DataFrame, trajectories: pd.DataFrame) -> pd.DataFrame:
    """The prompt of each trajectory, in the order of `trajectories`."""
    require_columns(prompts, ("attribute", "direction", "low", "high"), "the table of prompts")
    require_columns(trajectories, (*CAPTIONS, *IMAGES), "the table of trajectories")
    return trajectories[["prompt_id"]].merge(prompts, on="prompt_id", how="left")


def _attributes(settings: ImageJudgeSettings, trajectories: pd.DataFrame, prompts: pd.DataFrame) -> np.ndarray:
    """The requested attribute of each image: `[n, 3]`."""
    with image_judge(settings) as judge:
        return np.stack([judge.attribute(trajectories[image].tolist(), prompts) for image in IMAGES], 1)
