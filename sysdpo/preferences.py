"""Trajectories, scores and preference pairs: their storage and construction.

Trajectories are a data frame with a row per trajectory and a column per variable. On disk images are PNG bytes, and a
`Completion` is its text beside a column `{variable}_tokens`.
"""

import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sysdpo.errors import UserError
from sysdpo.files import read_table, write_table
from sysdpo.values import Completion

TOKENS = "_tokens"


def write_trajectories(trajectories: pd.DataFrame, path: Path) -> None:
    """Write trajectories as parquet."""
    columns: dict[str, list[Any]] = {}
    for name, values in trajectories.items():
        first = values.iloc[0] if len(values) else None
        if isinstance(first, Completion):
            columns[str(name)] = [value.text for value in values]
            columns[f"{name}{TOKENS}"] = [list(value.tokens) for value in values]
        elif isinstance(first, Image.Image):
            columns[str(name)] = [_png(value) for value in values]
        else:
            columns[str(name)] = values.tolist()
    write_table(pd.DataFrame(columns), path)


def read_trajectories(path: Path) -> pd.DataFrame:
    """Read what `write_trajectories` wrote; raises `UserError` if it is none."""
    stored = read_table(path, ["trajectory_id", "prompt_id", "sample"])
    columns: dict[str, Sequence[Any]] = {}
    for name in stored.columns:
        if name.endswith(TOKENS):
            continue
        values = stored[name].tolist()
        if isinstance(values[0], bytes):
            columns[name] = [Image.open(io.BytesIO(value)).convert("RGB") for value in values]
        elif f"{name}{TOKENS}" in stored.columns:
            tokens = stored[f"{name}{TOKENS}"]
            columns[name] = [Completion(text, tuple(map(int, ids))) for text, ids in zip(values, tokens, strict=True)]
        else:
            columns[name] = values
    return pd.DataFrame({name: pd.Series(values, dtype=_dtype(values)) for name, values in columns.items()})


def _dtype(values: Sequence[Any]) -> Any:
    return object if isinstance(values[0], (Completion, Image.Image)) else None


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def as_frame(prompt_ids: Sequence[str], samples: Sequence[int], variables: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Trajectories as a data frame: row `i` is sample `samples[i]` of prompt `prompt_ids[i]`."""
    identifiers = [f"{prompt}/{sample}" for prompt, sample in zip(prompt_ids, samples, strict=True)]
    frame = {"trajectory_id": identifiers, "prompt_id": list(prompt_ids), "sample": list(samples)}
    return pd.DataFrame(frame | {name: pd.Series(list(values), dtype=object) for name, values in variables.items()})


def make_pairs(scores: pd.DataFrame) -> pd.DataFrame:
    """All untied pairs of trajectories of the same prompt, the better one chosen.

    scores: columns `trajectory_id, prompt_id, score`. Returns `pair_id, prompt_id, chosen_id, rejected_id, margin`,
    `margin` the (positive) difference of the scores.
    """
    rows = []
    for prompt, group in scores.groupby("prompt_id", sort=True):
        ranked = group.sort_values(["score", "trajectory_id"], ascending=[False, True], kind="stable")
        for (better, high), (worse, low) in combinations(zip(ranked.trajectory_id, ranked.score, strict=True), 2):
            if high > low:
                rows.append((f"{better}>{worse}", prompt, better, worse, high - low))
    return pd.DataFrame(rows, columns=["pair_id", "prompt_id", "chosen_id", "rejected_id", "margin"])


def select_pairs(pairs: pd.DataFrame, choice: str, seed: int) -> pd.DataFrame:
    """The pairs to train on: `all` of them, or of every prompt one: `random`, or `best_worst` (the widest margin).

    Raises `UserError` if there are none.
    """
    if pairs.empty:
        raise UserError("pairs: there are none to train on; sample more trajectories a prompt or use a finer score")
    if choice == "random":
        pairs = pairs.sample(frac=1.0, random_state=seed).groupby("prompt_id", sort=True).head(1).sort_index()
    elif choice == "best_worst":
        pairs = pairs.loc[pairs.groupby("prompt_id", sort=True)["margin"].idxmax()]
    return pairs.reset_index(drop=True)


def label_pairs(pairs: pd.DataFrame, labels: str, temperature: float, seed: int) -> pd.DataFrame:
    """Who is called the winner: `deterministic` (the higher score), `bradley_terry`, or `random` (a null control).

    Under Bradley-Terry the higher score wins with probability `σ(margin / temperature)`.
    """
    if labels == "deterministic":
        return pairs
    margin = pairs["margin"].to_numpy()
    wins = np.full(len(pairs), 0.5) if labels == "random" else 1 / (1 + np.exp(-margin / temperature))
    swapped = np.random.default_rng(seed).random(len(pairs)) >= wins
    chosen, rejected = pairs["chosen_id"], pairs["rejected_id"]
    return pairs.assign(
        chosen_id=np.where(swapped, rejected, chosen),
        rejected_id=np.where(swapped, chosen, rejected),
        margin=np.where(swapped, -margin, margin),
    )
