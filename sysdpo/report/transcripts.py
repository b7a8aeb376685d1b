"""Questions, drafts and answers themselves: the same question and seed under every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sysdpo.base.errors import UserError
from sysdpo.report import files
from sysdpo.report.views import metric_view, order_methods, show

PLACES = (("hard", 1 / 4), ("typical", 1 / 2), ("easy", 3 / 4))
RIGHT = 0.5  # a score above it is that of a right answer, where answers are right or wrong


@dataclass(frozen=True)
class Turn:
    """What one method made of one question: the first model's draft, the second's answer, and that one's score."""

    draft: str
    answer: str
    score: float

    @property
    def right(self) -> bool:
        """Whether the answer is right, where answers are right or wrong."""
        return self.score > RIGHT

    @property
    def reward(self) -> str:
        """The score as a reader sees it, where it is a reward."""
        return show(metric_view("reward"), self.score)


@dataclass(frozen=True)
class Transcript:
    """One question, its expected answer (None where none is right or wrong), and every method's turn, methods in
    display order.
    """

    kind: str
    question: str
    expected: str | None
    turns: dict[str, Turn]

    @property
    def right(self) -> int:
        """How many methods answer rightly."""
        return sum(turn.right for turn in self.turns.values())

    @property
    def reward(self) -> str:
        """The mean over the methods, as a reader sees it."""
        return show(metric_view("reward"), sum(turn.score for turn in self.turns.values()) / len(self.turns))


def pick_transcripts(runs: Path, methods: Sequence[str]) -> list[Transcript]:
    """Three questions by a rule, so nothing is hand-picked: with the questions ordered by how many methods answer them
    rightly (without a column `answer` in the prompts: by the mean score of all methods), then by their id, the ones a
    quarter, half and three quarters of the way; first seed, first sample.

    `runs` is `results/runs/{system}`. Only questions that every method was evaluated on count. Raises UserError where a
    file, a column or such a question is missing.
    """
    prompts = files.read_prompts(runs, ("prompt_id", "split", "text"))
    seed = files.seeds_of(runs)[0]
    samples = files.read_evaluations(
        runs, "samples.parquet", methods, ("prompt_id", "sample", "draft", "answer", "score"), seeds=[seed]
    )
    first = samples.sort_values("sample").drop_duplicates(["method", "prompt_id"])
    tables = {str(name): part.set_index("prompt_id") for name, part in first.groupby("method")}
    shared = set.intersection(*(set(table.index) for table in tables.values()))
    shown = prompts[prompts["prompt_id"].isin(shared)]
    if shown.empty:
        raise UserError(f"No prompt of {runs / 'prompts.parquet'} was evaluated for every method at seed {seed}.")
    judged = "answer" in prompts.columns
    scores = [table.loc[shown["prompt_id"], "score"].to_numpy(float) for table in tables.values()]
    height = sum(score > RIGHT if judged else score / len(scores) for score in scores)
    ranked = shown.assign(height=height).sort_values(["height", "prompt_id"]).reset_index(drop=True)
    picked = {int(share * len(ranked)): kind for kind, share in PLACES}
    transcripts = []
    for place, kind in sorted(picked.items()):
        question = ranked.iloc[place]
        turns = {name: tables[name].loc[question["prompt_id"]] for name in order_methods(tables)}
        said = {name: Turn(str(row["draft"]), str(row["answer"]), float(row["score"])) for name, row in turns.items()}
        expected = str(question["answer"]) if judged else None
        transcripts.append(Transcript(kind, str(question["text"]), expected, said))
    return transcripts
