"""Sample pictures and texts of all methods for the same few prompts, picked by a rule rather than by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from sysdpo.base.errors import UserError
from sysdpo.method.description import SCORE, Pictures, Texts
from sysdpo.report import files
from sysdpo.report.descriptions import Shown
from sysdpo.report.trajectories import PIXEL_ART, Value, shrunk, values_of

QUANTILES = (("hard", 1 / 4), ("typical", 1 / 2), ("easy", 3 / 4))
RIGHT = 0.5  # scores above it are right answers, if answers are right or wrong
LOOKS_LIKE = "What it looks like"
BY_MEDIAN = (
    "Of each kind, or of the first three by name, the prompt on which {subject} scores its median, at the first seed: "
    "typical by that rule, not picked by eye. The bar under an image is how much of what was asked for the scorer sees "
    "in it; ✓ means that the images are as asked for, which of several is that it rises from one to the next."
)
HEADING = "What they say"
PICKED = (
    "With the test questions ordered by {} (first seed, first sample), the ones a quarter, half and three quarters of "
    "the way: picked by that rule, not by eye."
)


class Series(NamedTuple):
    """One method's output for one prompt: captions, PNG or JPEG bytes of images with sides of at most `SIDE` pixels,
    and the level of each image in [0, 1]; whether they are as asked for, None where that is that the levels rise; all
    that was generated.
    """

    captions: Sequence[str]
    images: Sequence[bytes]
    levels: Sequence[float]
    judged: bool | None = None
    generated: Sequence[Value] = ()

    @property
    def right(self) -> bool:
        """Whether the images are as asked for: judged so, or their levels rise strictly."""
        rises = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        return rises if self.judged is None else self.judged

    @property
    def coarse(self) -> bool:
        """Whether the images are so small that they should be shown without smoothing."""
        return any(max(Image.open(io.BytesIO(image)).size) <= PIXEL_ART for image in self.images)


class Exhibit(NamedTuple):
    """One prompt and every method's pictures, methods in display order."""

    prompt: str
    series: dict[str, Series]


class Turn(NamedTuple):
    """One method's texts for one question by heading, the score, the score as shown, which is nothing without a scorer,
    and all that was generated.
    """

    texts: Mapping[str, str]
    score: float
    shown: str
    generated: Sequence[Value] = ()

    @property
    def right(self) -> bool:
        """Whether the answer is right, if answers are right or wrong."""
        return self.score > RIGHT


class Transcript(NamedTuple):
    """One question, its expected answer (None if answers are not right or wrong), and every method's turn, methods in
    display order. mean: the mean score as shown.
    """

    kind: str
    question: str
    expected: str | None
    turns: dict[str, Turn]
    mean: str

    @property
    def right(self) -> int:
        """The number of methods with a right answer."""
        return sum(turn.right for turn in self.turns.values())


def pick_pictures(
    shown: Shown, pictures: Pictures, runs: Path, methods: Sequence[str], *, limit: int = 3
) -> list[Exhibit]:
    """For each of the first `limit` kinds of prompt by name, the prompt with the median score of the first highlighted
    method, or without one of the last method, at the first seed and sample.

    `runs` is `results/runs/{system}`. Only prompts that every method was evaluated on are shown.
    """
    columns = (*pictures.captions, *pictures.images, *([pictures.right] if pictures.right else []))
    turned = {"levels": pictures.levels, "direction": pictures.direction}
    prompts, tables = _first_samples(shown, runs, methods, (pictures.kind,), columns, **turned)
    subjects = [name for name in shown.subjects if name in tables]
    typical = subjects[0] if subjects else shown.order_methods(tables)[-1]
    # Without a scorer the one in the middle by id.
    score = tables[typical].loc[prompts["prompt_id"], "score"].to_numpy() if is_scored(shown) else 0.0
    ranked = prompts.assign(score=score)
    ranked = ranked.sort_values(["score", "prompt_id"])
    groups = [group.iloc[len(group) // 2] for _, group in ranked.groupby(pictures.kind, sort=True)]
    return [
        Exhibit(
            str(prompt["text"]),
            {
                name: _series(shown, tables[name].loc[prompt["prompt_id"]], pictures)
                for name in shown.order_methods(tables)
            },
        )
        for prompt in groups[:limit]
    ]


def _series(shown: Shown, row: pd.Series, pictures: Pictures) -> Series:
    return Series(
        [str(row[name]) for name in pictures.captions],
        [shrunk(bytes(row[name]), name) for name in pictures.images],
        [float(row[name]) for name in pictures.levels],
        bool(row[pictures.right]) if pictures.right else None,
        values_of(shown.graph, row, shown=pictures.images),
    )


def pick_texts(shown: Shown, texts: Texts, runs: Path, methods: Sequence[str]) -> list[Transcript]:
    """The questions at the quartiles when ordered by the number of methods that answer them rightly (if answers are not
    right or wrong: by all methods' mean score; without a scorer: not at all), then by id; first seed, first sample.

    `runs` is `results/runs/{system}`. Only questions that every method was evaluated on count. Raises `UserError` if a
    file, a column or such a question is missing.
    """
    columns = (texts.expected,) if texts.expected else ()
    prompts, tables = _first_samples(shown, runs, methods, columns, tuple(texts.parts.values()))
    scored, height = is_scored(shown), 0.0
    if scored:
        scores = [table.loc[prompts["prompt_id"], "score"].to_numpy(float) for table in tables.values()]
        height = sum(score > RIGHT if texts.expected else score / len(scores) for score in scores)
    ranked = prompts.assign(height=height).sort_values(["height", "prompt_id"]).reset_index(drop=True)
    picked = {int(share * len(ranked)): kind for kind, share in QUANTILES}
    transcripts = []
    for index, kind in sorted(picked.items()):
        question, turns = ranked.iloc[index], {}
        for name in shown.order_methods(tables):
            row = tables[name].loc[question["prompt_id"]]
            score = float(row["score"]) if scored else float("nan")
            turn = {title: str(row[column]) for title, column in texts.parts.items()}
            told = shown.metric(texts.metric).show(score) if scored else ""
            turns[name] = Turn(turn, score, told, values_of(shown.graph, row))
        expected = str(question[texts.expected]) if texts.expected and scored else None
        total = sum(turn.score for turn in turns.values())
        mean = shown.metric(texts.metric).show(total / len(turns)) if scored else ""
        transcripts.append(Transcript(kind, str(question["text"]), expected, turns, mean))
    return transcripts


def how_picked(shown: Shown, texts: Texts) -> str:
    """The rule of `pick_texts` as a sentence."""
    if not is_scored(shown):
        return PICKED.format("their ids")
    mean = f"the mean {shown.metric(texts.metric).label.lower()} of all methods' answers"
    return PICKED.format("how many methods answer them rightly" if texts.expected else mean)


def is_scored(shown: Shown) -> bool:
    """Whether samples have a score."""
    return SCORE in shown.metrics


def _first_samples(
    shown: Shown,
    runs: Path,
    methods: Sequence[str],
    of_prompts: Sequence[str],
    columns: Sequence[str],
    **turned: object,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The prompts that every method was evaluated on, by id, and each method's first samples at the first seed."""
    prompts, seed = files.read_prompts(runs, ("prompt_id", "split", "text", *of_prompts)), files.seeds_of(runs)[0]
    columns = ("prompt_id", "sample", *(["score"] if is_scored(shown) else []), *columns)
    samples = files.read_samples(runs, methods, columns, seeds=[seed], **turned)  # type: ignore[arg-type]
    first = samples.sort_values("sample").drop_duplicates(["method", "prompt_id"])
    tables = {str(name): rows.set_index("prompt_id") for name, rows in first.groupby("method")}
    shared = set.intersection(*(set(table.index) for table in tables.values()))
    chosen = prompts[prompts["prompt_id"].isin(shared)].sort_values("prompt_id")
    if chosen.empty:
        raise UserError(f"No prompt of {runs / 'prompts.parquet'} was evaluated for every method at seed {seed}.")
    return chosen, tables
