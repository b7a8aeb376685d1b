"""Preferences of one's own: a table, a file or a list of which output people prefer to which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.base.seeds import numpy_generator
from sysdpo.method.component import Reader
from sysdpo.method.system import System

CHOSEN, REJECTED = "chosen", "rejected"


@dataclass(frozen=True)
class Preferences:
    """Pairs of trajectories of one prompt each, one preferred to the other.

    trajectories: `trajectory_id, prompt_id, sample`, and a column for each variable that is known. pairs: `pair_id,
    prompt_id, chosen_id, rejected_id, margin`.
    """

    trajectories: pd.DataFrame
    pairs: pd.DataFrame

    def __len__(self) -> int:
        return len(self.pairs)

    def split(self, share: float, *, seed: int = 0) -> tuple["Preferences", "Preferences"]:
        """Two parts, the second with about this share of the prompts; no prompt is in both.

        Raises `UserError` if one of them would be empty.
        """
        prompts = list(dict.fromkeys(self.pairs["prompt_id"]))
        count = round(share * len(prompts))
        if not 0 < count < len(prompts):
            raise UserError(f"share: {share} should leave prompts in both parts; there are {len(prompts)}")
        order = numpy_generator("split of preferences", seed).permutation(len(prompts))
        held_out = {prompts[index] for index in order[:count]}
        apart = self.pairs["prompt_id"].isin(held_out)
        return self._of(~apart), self._of(apart)

    def _of(self, rows: pd.Series) -> "Preferences":
        pairs = self.pairs[rows].reset_index(drop=True)
        named = self.trajectories["trajectory_id"].isin([*pairs["chosen_id"], *pairs["rejected_id"]])
        return Preferences(self.trajectories[named].reset_index(drop=True), pairs)


def read_preferences(source: Any, system: System) -> Preferences:
    """The preferences in a file (`.jsonl`, `.json`, `.csv`, `.parquet`), a data frame, or a list of mappings.

    Each row has the system's inputs by name (`prompt` will do for a single one), and `chosen` and `rejected`: the
    output itself where the system has one, or a mapping of variables, the outputs at least. Rows with equal inputs are
    of one prompt. Raises `UserError` about the first row that is none.
    """
    rows = _rows(source)
    if not rows:
        raise UserError("preferences: there are no rows; at least one is needed")
    found = [_parsed(row, number, system) for number, row in enumerate(rows)]
    known = set(found[0][1])
    prompts: dict[str, str] = {}
    trajectories, pairs = [], []
    for number, (inputs, chosen, rejected) in enumerate(found):
        for side, values in ((CHOSEN, chosen), (REJECTED, rejected)):
            if set(values) != known:
                told = f"should have the variables {sorted(known)}, as others have; it has {sorted(values)}"
                raise UserError(f"preferences: row {number}, {side}: it {told}")
        prompt = prompts.setdefault(repr(sorted(inputs.items())), f"p{len(prompts):06d}")
        names = [f"{prompt}-{number}-{side}" for side in (CHOSEN, REJECTED)]
        for place, (name, values) in enumerate(zip(names, (chosen, rejected), strict=True)):
            trajectories.append(
                {"trajectory_id": name, "prompt_id": prompt, "sample": 2 * number + place} | inputs | values
            )
        pair = {"pair_id": f"{prompt}-{number}", "prompt_id": prompt, "chosen_id": names[0], "rejected_id": names[1]}
        pairs.append(pair | {"margin": 1.0})
    return Preferences(_frame(trajectories), pd.DataFrame(pairs))


def _rows(source: Any) -> list[Mapping[str, Any]]:
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.suffix in (".jsonl", ".json"):
            try:
                source = pd.read_json(path, lines=path.suffix == ".jsonl", dtype=False)
            except (OSError, ValueError) as error:
                raise UserError(f"'{path}' should be a {path.suffix} file, but cannot be read ({error})") from error
        else:
            source = read_table(path, (CHOSEN, REJECTED))
    if isinstance(source, pd.DataFrame):
        return [{str(name): value for name, value in row.items()} for row in source.to_dict("records")]
    if not isinstance(source, Sequence) or not all(isinstance(row, Mapping) for row in source):
        raise UserError("preferences: they should be a file, a data frame, or a list of mappings")
    return list(source)


def _parsed(
    row: Mapping[str, Any], number: int, system: System
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The inputs, and what is known of the chosen and the rejected trajectory."""
    told = dict(row)
    if "prompt" in told and "prompt" not in system.inputs and len(system.inputs) == 1:
        told[system.inputs[0]] = told.pop("prompt")
    if missing := [name for name in (*system.inputs, CHOSEN, REJECTED) if _is_missing(told.get(name))]:
        raise UserError(f"preferences: row {number} lacks {missing}; it has {sorted(row)}")
    sides = [_values(told[side], f"preferences: row {number}, {side}", system) for side in (CHOSEN, REJECTED)]
    return {name: told[name] for name in system.inputs}, *sides  # type: ignore[return-value]


def _values(given: Any, where: str, system: System) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        if len(system.outputs) > 1:
            raise UserError(f"{where}: it should be a mapping of the outputs {list(system.outputs)}")
        given = {system.outputs[0]: given}
    owners = {node.name: system.components[node.component] for node in system.nodes}
    if unknown := sorted(set(given) - set(owners)):
        raise UserError(f"{where}: {unknown} should be among the system's variables {list(owners)}")
    if missing := [name for name in system.outputs if _is_missing(given.get(name))]:
        raise UserError(f"{where}: it lacks the outputs {missing}")
    values = {}
    for name, value in given.items():
        owner = owners[name]
        values[name] = owner.value_of(value) if isinstance(value, str) and isinstance(owner, Reader) else value
    return values


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Columns of Python's own objects: a generated text has its tokens beside it."""
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]})
