"""Questions, drafts and answers themselves: the same question and seed under every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sysdpo.errors import UserError
from sysdpo.report import files
from sysdpo.report.views import order_methods

PLACES = (("hard", 1 / 4), ("typical", 1 / 2), ("easy", 3 / 4))


@dataclass(frozen=True)
class Turn:
    """What one method made of one question: the first model's draft, the second's answer, and whether it is right."""

    draft: str
    answer: str
    right: bool


@dataclass(frozen=True)
class Transcript:
    """One question, its expected answer, and every method's turn, methods in display order."""

    kind: str
    question: str
    expected: str
    turns: dict[str, Turn]

    @property
    def right(self) -> int:
        """How many methods answer rightly."""
        return sum(turn.right for turn in self.turns.values())


def pick_transcripts(runs: Path, methods: Sequence[str]) -> list[Transcript]:
    """Three questions by a rule, so nothing is hand-picked: with the questions ordered by how many methods answer them
    rightly, then by their id, the ones a quarter, half and three quarters of the way; first seed, first sample.

    `runs` is `results/runs/{system}`. Only questions that every method was evaluated on count. Raises UserError where a
    file, a column or such a question is missing.
    """
    prompts = files.read_table(runs / "prompts.parquet", ("prompt_id", "split", "text", "answer"))
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
    right = sum((table.loc[shown["prompt_id"], "score"] > 0.5).to_numpy().astype(int) for table in tables.values())
    ranked = shown.assign(right=right).sort_values(["right", "prompt_id"]).reset_index(drop=True)
    picked = {int(share * len(ranked)): kind for kind, share in PLACES}
    transcripts = []
    for place, kind in sorted(picked.items()):
        question = ranked.iloc[place]
        turns = {name: tables[name].loc[question["prompt_id"]] for name in order_methods(tables)}
        said = {
            name: Turn(str(row["draft"]), str(row["answer"]), bool(row["score"] > 0.5)) for name, row in turns.items()
        }
        transcripts.append(Transcript(kind, str(question["text"]), str(question["answer"]), said))
    return transcripts
