"""Which outputs people are asked to compare: pairs of a run's trajectories, as the run has stored them.

No model library is imported, no picture is decoded, and of a large table only the rows that are shown are kept.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_arrow
from sysdpo.base.seeds import numpy_generator
from sysdpo.base.tables import TRAJECTORY_COLUMNS
from sysdpo.method.preferences import TOKENS, variable_of

ROWS = 64
"""How many rows are held at once while outputs are compared."""

Key = tuple[Path, str]
"""Where a trajectory is stored, and its id."""


@dataclass(frozen=True)
class Graph:
    """The names of a system's variables: its inputs, all that is generated, in order, and what people judge of that."""

    inputs: Sequence[str]
    generated: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True)
class Side:
    """One of two trajectories. origin: its `trajectory_id`, and the `method` that it was evaluated with, if any.

    stored: the generated variables, in columns as `write_trajectories` names them, a picture as its PNG's bytes.
    """

    origin: Mapping[str, str]
    stored: Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """Two trajectories of one prompt. Which is the first follows from what they hold, not from where they came from.

    id: the same for the same prompt and contents, in whichever run. inputs: stored as a side is. content: what the
    prompt is about, where the run says so.
    """

    id: str
    inputs: Mapping[str, Any]
    first: Side
    second: Side
    content: Any = None
    sides: Mapping[str, Side] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sides", {"first": self.first, "second": self.second})


def pairs_within(path: Path, graph: Graph, count: int, contents: Mapping[str, Any]) -> list[Pair]:
    """At most `count` pairs of trajectories of one file, each of two of a prompt whose outputs differ.

    contents: what prompts are about, by their ids. Every prompt gets a pair before any gets a second one; a larger
    count has the pairs of a smaller one. Raises `UserError` where no two outputs of a prompt differ, or if the file
    holds no trajectories of this system.
    """
    found: dict[str, list[tuple[Key, Key]]] = {}
    for prompt, seen in _outputs_of(path, graph).items():
        distinct: dict[bytes, Key] = {}
        for _, name, digest in seen:
            distinct.setdefault(digest, (path, name))  # of equal outputs the first, or people are asked the same twice
        choices = list(combinations(distinct.values(), 2))
        order = numpy_generator("pairs to annotate", prompt).permutation(len(choices))
        found[prompt] = [choices[index] for index in order]
    return _chosen(found, graph, count, contents, {path: {}}, f"'{path}'")


def pairs_between(paths: Mapping[str, Path], graph: Graph, count: int, contents: Mapping[str, Any]) -> list[Pair]:
    """As `pairs_within`, of two methods' evaluations: the same sample of the same prompt. paths: by method."""
    one, other = (
        {(prompt, sample): (name, digest) for prompt, seen in table.items() for sample, name, digest in seen}
        for table in (_outputs_of(path, graph) for path in paths.values())
    )
    first, second = paths.values()
    found: dict[str, list[tuple[Key, Key]]] = {}
    for key in sorted(one.keys() & other.keys()):
        if one[key][1] != other[key][1]:
            found.setdefault(key[0], []).append(((first, one[key][0]), (second, other[key][0])))
    origins = {path: {"method": method} for method, path in paths.items()}
    return _chosen(found, graph, count, contents, origins, " and ".join(f"'{path}'" for path in paths.values()))


def _outputs_of(path: Path, graph: Graph) -> dict[str, list[tuple[int, str, bytes]]]:
    """Of every prompt, its trajectories in the file's order: sample, id, and a digest of the outputs."""
    read_arrow(path, TRAJECTORY_COLUMNS, only=["trajectory_id"])  # says what is wrong with the file
    columns = pq.read_schema(path).names
    if missing := [name for name in (*graph.inputs, *graph.outputs) if name not in map(variable_of, columns)]:
        raise UserError(f"'{path}' lacks the variables {missing} of the system; it has {columns}")
    # Tokens are not seen: equal texts are equal outputs.
    seen = [name for name in columns if variable_of(name) in graph.outputs and not name.endswith(TOKENS)]
    found: dict[str, list[tuple[int, str, bytes]]] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS, columns=[*TRAJECTORY_COLUMNS, *seen]):
            for row in batch.to_pylist():
                digest = _digest({name: row[name] for name in seen})
                found.setdefault(row["prompt_id"], []).append((row["sample"], row["trajectory_id"], digest))
    return found


def _chosen(
    found: Mapping[str, Sequence[tuple[Key, Key]]],
    graph: Graph,
    count: int,
    contents: Mapping[str, Any],
    origins: Mapping[Path, Mapping[str, str]],
    where: str,
) -> list[Pair]:
    """The first pair of every prompt, then the second of every one that has it, and so on, up to `count`."""
    prompts = sorted(found)
    prompts = [prompts[index] for index in numpy_generator("prompts to annotate").permutation(len(prompts))]
    chosen = list(islice(_in_turn([found[prompt] for prompt in prompts]), count))
    if not chosen:
        raise UserError(f"{where} should have two different outputs of some prompt to compare, but has none")
    rows: dict[Key, dict[str, Any]] = {}
    for path in origins:
        names = list(dict.fromkeys(name for pair in chosen for place, name in pair if place == path))
        table = pq.read_table(path, filters=[("trajectory_id", "in", names)], partitioning=None)
        rows |= {(path, row["trajectory_id"]): row for row in table.to_pylist()}
    made = [_pair([(key, rows[key]) for key in keys], graph, contents, origins) for keys in chosen]
    return list({pair.id: pair for pair in made}.values())


def _in_turn(lists: Sequence[Sequence[Any]]) -> Iterator[Any]:
    for turn in range(max(map(len, lists), default=0)):
        yield from (entries[turn] for entries in lists if len(entries) > turn)


def _pair(
    rows: Sequence[tuple[Key, Mapping[str, Any]]],
    graph: Graph,
    contents: Mapping[str, Any],
    origins: Mapping[Path, Mapping[str, str]],
) -> Pair:
    inputs = _of(graph.inputs, rows[0][1])
    sides = []
    for (path, name), row in rows:
        stored = _of(graph.generated, row)
        sides.append((_digest(stored), Side({**origins[path], "trajectory_id": name}, stored)))
    (one, first), (other, second) = sorted(sides, key=lambda side: side[0])
    name = _digest({"inputs": _digest(inputs), "first": one, "second": other})[:8].hex()
    return Pair(name, inputs, first, second, contents.get(rows[0][1]["prompt_id"]))


def _of(variables: Sequence[str], row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of these variables, in the variables' order."""
    columns = sorted((name for name in row if variable_of(name) in variables), key=lambda name: name.endswith(TOKENS))
    ranks = {name: rank for rank, name in enumerate(variables)}
    return {name: row[name] for name in sorted(columns, key=lambda name: ranks[variable_of(name)])}


def _digest(stored: Mapping[str, Any]) -> bytes:
    """Equal for equal values in equal columns."""
    told = {name: value.hex() if isinstance(value, bytes) else value for name, value in stored.items()}
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).digest()


def picture_name(png: bytes) -> str:
    """What the file of a picture is called: the same for the same bytes."""
    return f"{hashlib.blake2b(png, digest_size=16).hexdigest()}.png"
