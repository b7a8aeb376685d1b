"""What methods made of the same few prompts, picked by a rule, so that nothing is hand-picked: pictures or texts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image, UnidentifiedImageError

from sysdpo.base.errors import UserError
from sysdpo.method.description import Pictures, Texts
from sysdpo.report import files
from sysdpo.report.descriptions import Shown

SIDE = 256  # pixels; larger images are shrunk to it
PLACES = (("hard", 1 / 4), ("typical", 1 / 2), ("easy", 3 / 4))
RIGHT = 0.5  # a score above it is that of a right answer, where answers are right or wrong
LOOKS_LIKE = "What it looks like"
BY_MEDIAN = (
    "Of each kind, or of the first three by name, the prompt on which {subject} scores its median, at the first seed: "
    "typical by that rule, not picked by eye. The bar under an image is how much of what was asked for the scorer sees "
    "in it; ✓ means that it rises from image to image."
)
HEADING = "What they say"
PICKED = (
    "With the test questions ordered by {} (first seed, first sample), the ones a quarter, half and three quarters of "
    "the way: picked by that rule, not by eye."
)


class Series(NamedTuple):
    """What one method made of one prompt: captions, PNG bytes of images of at most `SIDE` pixels a side, and the level
    of each image in [0, 1].
    """

    captions: Sequence[str]
    images: Sequence[bytes]
    levels: Sequence[float]

    @property
    def in_order(self) -> bool:
        """Whether the level strictly rises."""
        return all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))

    @property
    def coarse(self) -> bool:
        """Whether the images have so few pixels that they should be shown as they are."""
        return any(max(Image.open(io.BytesIO(image)).size) <= SIDE // 4 for image in self.images)


class Exhibit(NamedTuple):
    """One prompt and the pictures that every method made of it, methods in display order."""

    prompt: str
    series: dict[str, Series]


class Turn(NamedTuple):
    """The texts that one method made of one question, by their headings, the score, and how a reader sees that."""

    parts: Mapping[str, str]
    score: float
    shown: str

    @property
    def right(self) -> bool:
        """Whether the answer is right, where answers are right or wrong."""
        return self.score > RIGHT


class Transcript(NamedTuple):
    """One question, its expected answer (None where none is right or wrong), and every method's turn, methods in
    display order. mean: of the scores, as a reader sees it.
    """

    kind: str
    question: str
    expected: str | None
    turns: dict[str, Turn]
    mean: str

    @property
    def right(self) -> int:
        """How many methods answer rightly."""
        return sum(turn.right for turn in self.turns.values())


def pick_pictures(
    shown: Shown, given: Pictures, runs: Path, methods: Sequence[str], *, limit: int = 3
) -> list[Exhibit]:
    """Of each kind of prompt, the first `limit` by name, the prompt on which the first method that is set off, or
    without one the last, scores its median, at the first seed and first sample.

    `runs` is `results/runs/{system}`. Only prompts that every method was evaluated on are shown.
    """
    columns, levels = (*given.captions, *given.images), given.levels
    prompts, tables = _first_samples(runs, methods, (given.kind,), columns, levels=levels, direction=given.direction)
    subjects = [name for name in shown.subjects if name in tables]
    typical = subjects[0] if subjects else shown.order_methods(tables)[-1]
    ranked = prompts.assign(score=tables[typical].loc[prompts["prompt_id"], "score"].to_numpy())
    ranked = ranked.sort_values(["score", "prompt_id"])
    groups = [group.iloc[len(group) // 2] for _, group in ranked.groupby(given.kind, sort=True)]
    return [
        Exhibit(
            str(prompt["text"]),
            {name: _series(tables[name].loc[prompt["prompt_id"]], given) for name in shown.order_methods(tables)},
        )
        for prompt in groups[:limit]
    ]


def _series(row: pd.Series, given: Pictures) -> Series:
    return Series(
        [str(row[name]) for name in given.captions],
        [_shrunk(bytes(row[name]), name) for name in given.images],
        [float(row[name]) for name in given.levels],
    )


def pick_texts(shown: Shown, given: Texts, runs: Path, methods: Sequence[str]) -> list[Transcript]:
    """The questions a quarter, half and three quarters of the way, ordered by how many methods answer them rightly
    (where none is right or wrong: by the mean score of all methods), then by their id; first seed, first sample.

    `runs` is `results/runs/{system}`. Only questions that every method was evaluated on count. Raises UserError where a
    file, a column or such a question is missing.
    """
    wanted = (given.expected,) if given.expected else ()
    prompts, tables = _first_samples(runs, methods, wanted, tuple(given.parts.values()))
    metric = shown.metric(given.metric)
    scores = [table.loc[prompts["prompt_id"], "score"].to_numpy(float) for table in tables.values()]
    height = sum(score > RIGHT if given.expected else score / len(scores) for score in scores)
    ranked = prompts.assign(height=height).sort_values(["height", "prompt_id"]).reset_index(drop=True)
    picked = {int(share * len(ranked)): kind for kind, share in PLACES}
    transcripts = []
    for place, kind in sorted(picked.items()):
        question, turns = ranked.iloc[place], {}
        for name in shown.order_methods(tables):
            row = tables[name].loc[question["prompt_id"]]
            parts, score = {title: str(row[part]) for title, part in given.parts.items()}, float(row["score"])
            turns[name] = Turn(parts, score, metric.show(score))
        expected = str(question[given.expected]) if given.expected else None
        mean = metric.show(sum(turn.score for turn in turns.values()) / len(turns))
        transcripts.append(Transcript(kind, str(question["text"]), expected, turns, mean))
    return transcripts


def how_picked(shown: Shown, given: Texts) -> str:
    """The rule of `pick_texts`, for readers."""
    mean = f"the mean {shown.metric(given.metric).label.lower()} of all methods' answers"
    return PICKED.format("how many methods answer them rightly" if given.expected else mean)


def _first_samples(
    runs: Path,
    methods: Sequence[str],
    of_prompts: Sequence[str],
    columns: Sequence[str],
    **turned: object,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The prompts that every method was evaluated on, by id, and each method's first samples at the first seed."""
    prompts, seed = files.read_prompts(runs, ("prompt_id", "split", "text", *of_prompts)), files.seeds_of(runs)[0]
    columns = ("prompt_id", "sample", "score", *columns)
    samples = files.read_samples(runs, methods, columns, seeds=[seed], **turned)  # type: ignore[arg-type]
    first = samples.sort_values("sample").drop_duplicates(["method", "prompt_id"])
    tables = {str(name): part.set_index("prompt_id") for name, part in first.groupby("method")}
    shared = set.intersection(*(set(table.index) for table in tables.values()))
    found = prompts[prompts["prompt_id"].isin(shared)].sort_values("prompt_id")
    if found.empty:
        raise UserError(f"No prompt of {runs / 'prompts.parquet'} was evaluated for every method at seed {seed}.")
    return found, tables


def _shrunk(image: bytes, column: str) -> bytes:
    """The PNG with its longer side at most `SIDE`: a report full of large pictures opens in no browser."""
    try:
        opened = Image.open(io.BytesIO(image)).convert("RGB")
    except UnidentifiedImageError as problem:
        raise UserError(f"The column {column} holds bytes that are no PNG.") from problem
    if max(opened.size) <= SIDE:
        return image
    opened.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    opened.save(written, "PNG", optimize=True)
    return written.getvalue()
