"""Trajectories, scores and preference pairs: their storage and construction.

Trajectories are a data frame with a row per trajectory and a column per variable. On disk images are PNG bytes, a
`Completion` is its text beside a column `{variable}_tokens`, and values that are not all texts, or all numbers of one
kind, are JSON in a column `{variable}_json`. Every value that a component made, None included, reads back unchanged.
"""

import base64
import io
import json
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_arrow, whole
from sysdpo.base.packing import pack, unpack
from sysdpo.base.seeds import numpy_generator
from sysdpo.base.tables import TRAJECTORY_COLUMNS
from sysdpo.method.values import Completion

TOKENS, JSON = "_tokens", "_json"
PLAIN = ({str}, {bool}, {int}, {float})
"""The kinds of values that parquet has a type for; a column has one of them."""


def write_trajectories(trajectories: pd.DataFrame, path: Path) -> None:
    """Write trajectories as parquet; raises `UserError` if a value is of a kind that cannot be written."""
    columns: dict[str, Sequence[Any]] = {}
    for label, series in trajectories.items():
        name, values = str(label), [_plain(value) for value in series.tolist()]
        if name.endswith((TOKENS, JSON)):
            raise UserError(f"variable '{name}': its name should not end with '{TOKENS}' or '{JSON}'")
        kinds = {type(value) for value in values if value is not None}
        if kinds == {Completion}:
            columns[name] = [None if value is None else value.text for value in values]
            columns[f"{name}{TOKENS}"] = [None if value is None else list(value.tokens) for value in values]
        elif kinds and all(issubclass(kind, Image.Image) for kind in kinds):
            columns[name] = [None if value is None else _png(value) for value in values]
        elif (kinds in PLAIN and not (kinds == {int} and _is_large(values))) or not kinds:
            columns[name] = values
        else:
            columns[f"{name}{JSON}"] = [_as_json(name, value) for value in values]
    with whole(path) as temporary:
        # Not by way of pandas, which has a number that is none where a value is missing.
        pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), temporary)


def read_trajectories(path: Path) -> pd.DataFrame:
    """Read what `write_trajectories` wrote; raises `UserError` if the file holds anything else."""
    stored = read_arrow(path, TRAJECTORY_COLUMNS)
    columns: dict[str, list[Any]] = {}
    try:
        for name in stored.column_names:
            values = stored.column(name).to_pylist()
            if name.endswith(JSON):
                columns[name.removesuffix(JSON)] = [unpack(json.loads(value), _restored) for value in values]
            elif name.endswith(TOKENS) and name.removesuffix(TOKENS) in columns:
                texts = columns[name.removesuffix(TOKENS)]
                columns[name.removesuffix(TOKENS)] = [
                    None if ids is None else Completion(text, tuple(ids))
                    for text, ids in zip(texts, values, strict=True)
                ]
            elif pa.types.is_binary(stored.schema.field(name).type):
                columns[name] = [None if value is None else _picture(value) for value in values]
            else:
                columns[name] = values
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"'{path}' should hold trajectories, but '{name}' cannot be read ({error})") from error
    return pd.DataFrame({name: pd.Series(values, dtype=_dtype(values)) for name, values in columns.items()})


def from_columns(row: Mapping[str, Any], variables: Collection[str]) -> dict[str, Any]:
    """A row with the values of these variables as they were, where it has them in columns as `write_trajectories` does:
    a text beside its tokens, and in `{variable}_json` what JSON has no word for, here not as a text. The rest is kept.
    """
    found = dict(row)
    for name in variables:
        tokens, packed = (f"{name}{kind}" for kind in (TOKENS, JSON))
        if isinstance(found.get(tokens), list) and isinstance(found.get(name), str):
            found[name] = Completion(found[name], tuple(found.pop(tokens)))
        elif packed in found and name not in found:
            found[name] = unpack(found.pop(packed), _restored)
    return found


def variable_of(column: str) -> str:
    """The variable that a stored column belongs to."""
    return column.removesuffix(TOKENS).removesuffix(JSON)


def _dtype(values: Sequence[Any]) -> Any:
    """A column's dtype: None, pandas' own choice, if that keeps the values as they are."""
    return None if {type(value) for value in values} in PLAIN and not _is_large(values) else object


def _is_large(values: Sequence[Any]) -> bool:
    """Whether a whole number does not fit into 64 bits."""
    return any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)


def _plain(value: Any) -> Any:
    """A value of numpy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _as_json(name: str, value: Any) -> str:
    try:
        return json.dumps(pack(_plain(value), _described))
    except TypeError as error:
        raise UserError(
            f"variable '{name}': {error} cannot be written; it should be made of texts, numbers, lists, tuples, "
            "mappings, images, completions and None"
        ) from error


def _described(value: Any) -> dict[str, Any] | None:
    match value:
        case Completion():
            return {"completion": [value.text, list(value.tokens)]}
        case Image.Image():
            return {"png": base64.b64encode(_png(value)).decode()}
        case np.ndarray():
            return {"array": [str(value.dtype), value.tolist()]}
        case np.generic():
            return {"number": [str(value.dtype), value.item()]}
    return None


def _restored(kind: str, content: Any) -> Any:
    match kind:
        case "completion":
            return Completion(content[0], tuple(content[1]))
        case "png":
            return _picture(base64.b64decode(content))
        case "array":
            return np.array(content[1], content[0])
        case "number":
            return np.dtype(content[0]).type(content[1])
    raise ValueError(f"'{kind}' is no kind of value")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _picture(png: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(png))
    return picture.convert(picture.mode)  # an image of its own, no longer the file's


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


def select_pairs(pairs: pd.DataFrame, choice: str, *stream: int) -> pd.DataFrame:
    """The pairs to train on.

    choice: `all` of them, or one for each prompt: `random`, or `best_worst` (the one with the largest margin). stream:
    numbers that a random choice depends on.

    Raises `UserError` if there are no pairs.
    """
    if pairs.empty:
        raise UserError("pairs: there are none to train on; sample more trajectories a prompt or use a finer score")
    if choice == "random":
        shuffled = pairs.sample(frac=1.0, random_state=numpy_generator("pairs", *stream))
        pairs = shuffled.groupby("prompt_id", sort=True).head(1).sort_index()
    elif choice == "best_worst":
        pairs = pairs.loc[pairs.groupby("prompt_id", sort=True)["margin"].idxmax()]
    return pairs.reset_index(drop=True)


def label_pairs(pairs: pd.DataFrame, labels: str, temperature: float, *stream: int) -> pd.DataFrame:
    """The pairs with their labels, in which the chosen and the rejected may have changed places.

    labels: `deterministic` (the higher score wins), `bradley_terry` (it wins with probability
    `σ(margin / temperature)`), or `random` (a null control).
    temperature: in units of the score.
    stream: numbers that the draws depend on.
    """
    if labels == "deterministic":
        return pairs
    margin = pairs["margin"].to_numpy()
    wins = np.full(len(pairs), 0.5) if labels == "random" else 1 / (1 + np.exp(-margin / temperature))
    swapped = numpy_generator("labels", *stream).random(len(pairs)) >= wins
    chosen, rejected = pairs["chosen_id"], pairs["rejected_id"]
    return pairs.assign(
        chosen_id=np.where(swapped, rejected, chosen),
        rejected_id=np.where(swapped, chosen, rejected),
        margin=np.where(swapped, -margin, margin),
    )
