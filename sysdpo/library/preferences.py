"""Preferences of one's own: a table, a file, a data set or a folder of which output people prefer to which."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import read_table
from sysdpo.base.seeds import numpy_generator
from sysdpo.library.conversations import from_conversations
from sysdpo.method.component import Reader, Tokenizing
from sysdpo.method.preferences import from_columns, make_pairs, variable_of
from sysdpo.method.system import System
from sysdpo.method.values import Completion, plain

CHOSEN, REJECTED = "chosen", "rejected"
SCORE, LABEL, BEST = "score", "label", "best"
COMPLETION, COMPLETIONS = "completion", "completions"
TIED = "tied"
SPLIT = "split"
ANNOTATION = "annotation"
"""Under this name a row says who judged it."""
FORMS = ("prompt", CHOSEN, REJECTED, SCORE, LABEL, BEST, COMPLETION, COMPLETIONS, TIED)
PAIR_COLUMNS = ["pair_id", "prompt_id", "chosen_id", "rejected_id", "margin"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Preferences:
    """Pairs of trajectories of the same prompt, one preferred to the other; its length is the number of pairs.

    trajectories: columns `trajectory_id, prompt_id, sample`, and one for each variable that is known.
    pairs: columns `pair_id, prompt_id, chosen_id, rejected_id, margin`.
    told: for each prompt the other entries of its first row, a `split` for example.
    """

    trajectories: pd.DataFrame
    pairs: pd.DataFrame
    told: Mapping[str, Row] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pairs)

    def split(self, share: float, *, seed: int = 0) -> tuple["Preferences", "Preferences"]:
        """Two random parts, the second with about this share of the prompts; no prompt is in both.

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

    def of_prompts(self, prompts: Collection[str]) -> "Preferences":
        """The preferences about these prompts, given by their ids."""
        return self._of(self.pairs["prompt_id"].isin(prompts))

    def _of(self, rows: pd.Series) -> "Preferences":
        pairs = self.pairs[rows].reset_index(drop=True)
        named = self.trajectories["trajectory_id"].isin([*pairs["chosen_id"], *pairs["rejected_id"]])
        told = {prompt: self.told[prompt] for prompt in dict.fromkeys(pairs["prompt_id"]) if prompt in self.told}
        return Preferences(self.trajectories[named].reset_index(drop=True), pairs, told)

    def to_trl(self, system: System) -> pd.DataFrame:
        """TRL's preference format, columns `prompt, chosen, rejected`, for a system of one input and one output.

        Intermediates are left out. Raises `UserError` for other systems.
        """
        if len(system.inputs) != 1 or len(system.outputs) != 1:
            raise UserError(
                f"system: TRL's format has one prompt and one completion; this one has the inputs "
                f"{list(system.inputs)} and the outputs {list(system.outputs)}"
            )
        rows = self.trajectories.set_index("trajectory_id")
        chosen, rejected = (rows.loc[self.pairs[f"{side}_id"]] for side in (CHOSEN, REJECTED))
        columns = {"prompt": chosen[system.inputs[0]]}
        columns |= {CHOSEN: chosen[system.outputs[0]], REJECTED: rejected[system.outputs[0]]}
        return pd.DataFrame({name: list(map(plain, column)) for name, column in columns.items()})


def read_preferences(source: Any, system: System) -> Preferences:
    """Read preferences from a file, a folder of images, a data frame, a list of mappings, or a Hugging Face data set.

    A file is `.jsonl`, `.json`, `.csv` or `.parquet`. Each row has the system's inputs by name (or `prompt`, if there
    is one input; conversations as TRL has them count as texts), and one of

    - `chosen` and `rejected`: the output itself where the system has one, or a mapping of variables, the outputs at
      least. The pair is taken as it is.
    - `score`, a number, or `label`, true or false, beside the variables (or `completion`, the output): all untied
      trajectories of a prompt are paired.
    - `completions`, a list of such outputs or mappings, and `best`, the index of the best one, which is paired with
      each of the others; or `score`, a list of numbers.
    - `tied`, two such mappings: nothing can be learnt from them, and they are left out.

    Variables may be in columns as `write_trajectories` names them: a text beside its tokens, say.

    A folder holds `chosen/NAME.png` and `rejected/NAME.png` (any format that Pillow reads), and the inputs of each name
    in `NAME.txt`, or in `metadata.jsonl` or `metadata.csv` beside their `file_name`. Relative paths of images start in
    the folder of the file. Rows with equal inputs have the same prompt; their other entries are kept with it.

    Raises `UserError` about the first row that has none of these forms, or if there are no preferences.
    """
    rows, folder = _rows(source)
    if not rows:
        raise UserError("preferences: there are no rows; at least one is needed")
    found = _Trajectories(system, folder)
    for number, row in enumerate(rows):
        found.add(row, number)
    return found.preferences()


class _Trajectories:
    """Trajectories of a system as rows name them, and which of them are preferred to which."""

    def __init__(self, system: System, folder: Path):
        self.system, self.folder = system, folder
        self.owners = {node.name: system.components[node.component] for node in system.nodes}
        self.prompts: dict[str, str] = {}
        self.told: dict[str, Row] = {}
        self.rows: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        self.pairs: list[dict[str, Any]] = []

    def add(self, row: Row, number: int) -> None:
        """One row of any form; raises `UserError` if it has none."""
        if not _is_missing(row.get(TIED)):
            return
        plain_row = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        where, told = f"preferences: row {number}", from_conversations(plain_row, number)
        told = from_columns(told, [*self.system.inputs, *self.owners])
        if "prompt" in told and "prompt" not in self.system.inputs and len(self.system.inputs) == 1:
            told[self.system.inputs[0]] = told.pop("prompt")
        form = next((form for form in self._forms() if all(not _is_missing(told.get(name)) for name in form)), None)
        needed = [*self.system.inputs, *(form or (CHOSEN, REJECTED))]
        if missing := [name for name in needed if _is_missing(told.get(name))]:
            raise UserError(f"{where} lacks {missing}; it has {sorted(row)}")
        inputs = {name: told[name] for name in self.system.inputs}
        prompt = self.prompts.setdefault(repr(sorted(inputs.items())), f"p{len(self.prompts):06d}")
        self._tell(prompt, told, where)
        if form == (CHOSEN, REJECTED):
            ids = [self._put(prompt, inputs, told[side], f"{where}, {side}") for side in form]
            self._prefer(prompt, *ids)
        elif COMPLETIONS in (form or ()):
            self._add_list(prompt, inputs, told, where)
        else:
            values = {name: told[name] for name in self.owners if not _is_missing(told.get(name))}
            if COMPLETION in told and not values.keys() & set(self.system.outputs):
                values |= self._outputs(told[COMPLETION], where)
            self._judge(prompt, self._put(prompt, inputs, values, where), told[(form or (SCORE,))[0]], where)

    def _tell(self, prompt: str, told: Row, where: str) -> None:
        used = {*FORMS, *self.system.inputs, *self.owners}
        rest = {name: value for name, value in told.items() if name not in used and not _is_missing(value)}
        first = self.told.setdefault(prompt, rest)
        if (split := rest.get(SPLIT)) != first.get(SPLIT):
            raise UserError(
                f"{where}: its {SPLIT} {split!r} should be {first.get(SPLIT)!r}, as that of the same prompt before it"
            )

    def _forms(self) -> list[tuple[str, ...]]:
        return [(CHOSEN, REJECTED), (COMPLETIONS, BEST), (COMPLETIONS, SCORE), (SCORE,), (LABEL,)]

    def _add_list(self, prompt: str, inputs: Row, told: Row, where: str) -> None:
        completions = list(told[COMPLETIONS])
        ids = [
            self._put(prompt, inputs, value, f"{where}, {COMPLETIONS}[{index}]")
            for index, value in enumerate(completions)
        ]
        if not _is_missing(told.get(BEST)):
            best = told[BEST]
            if isinstance(best, bool) or not isinstance(best, (int, np.integer)) or not 0 <= best < len(ids):
                raise UserError(f"{where}, {BEST}: {best!r} should be an index of its {len(ids)} completions")
            for index, other in enumerate(ids):
                if index != best:
                    self._prefer(prompt, ids[int(best)], other)
            return
        scores = list(told[SCORE]) if isinstance(told[SCORE], Sequence) else [told[SCORE]]
        if len(scores) != len(ids):
            raise UserError(f"{where}, {SCORE}: it should be a list of {len(ids)} numbers, one for each completion")
        for trajectory, score in zip(ids, scores, strict=True):
            self._judge(prompt, trajectory, score, where)

    def _put(self, prompt: str, inputs: Row, value: Any, where: str) -> str:
        """A trajectory of its own for each mention; returns its id."""
        values = self._values(value, where)
        known = set(self.rows[0]) - {"trajectory_id", "prompt_id", "sample", *self.system.inputs} if self.rows else None
        if known is not None and set(values) != known:
            told = f"should have the variables {sorted(known)}, as others have; it has {sorted(values)}"
            raise UserError(f"{where}: it {told}")
        name = f"{prompt}-{len(self.rows)}"
        row = {"trajectory_id": name, "prompt_id": prompt, "sample": len(self.rows)}
        self.rows.append(row | dict(inputs) | values)
        return name

    def _values(self, value: Any, where: str) -> dict[str, Any]:
        value = value if isinstance(value, Mapping) and not _is_picture(value) else self._outputs(value, where)
        value = from_columns(value, list(self.owners))
        if unknown := sorted(set(value) - set(self.owners)):
            raise UserError(f"{where}: {unknown} should be among the system's variables {list(self.owners)}")
        if missing := [name for name in self.system.outputs if _is_missing(value.get(name))]:
            raise UserError(f"{where}: it lacks the outputs {missing}")
        return {name: self._value(self.owners[name], inner) for name, inner in value.items()}

    def _outputs(self, value: Any, where: str) -> dict[str, Any]:
        if len(self.system.outputs) > 1:
            raise UserError(f"{where}: it should be a mapping of the outputs {list(self.system.outputs)}")
        return {self.system.outputs[0]: value}

    def _value(self, owner: Any, value: Any) -> Any:
        if _is_picture(value):  # as Hugging Face's data sets store one
            return _picture(value, self.folder)
        if isinstance(value, Completion):
            return owner.recognized(value) if isinstance(owner, Tokenizing) else value
        return owner.value_of(value, self.folder) if isinstance(value, str) and isinstance(owner, Reader) else value

    def _prefer(self, prompt: str, chosen: str, rejected: str) -> None:
        pair = {"pair_id": f"{prompt}-{len(self.pairs)}", "prompt_id": prompt}
        self.pairs.append(pair | {"chosen_id": chosen, "rejected_id": rejected, "margin": 1.0})

    def _judge(self, prompt: str, trajectory: str, score: Any, where: str) -> None:
        if not isinstance(score, (int, float, np.bool_, np.number)) or not np.isfinite(score):
            raise UserError(f"{where}: {score!r} should be a finite number, or true or false")
        self.scores.append({"trajectory_id": trajectory, "prompt_id": prompt, "score": float(score)})

    def preferences(self) -> Preferences:
        """All that was added; raises `UserError` where nothing is preferred to anything."""
        judged = make_pairs(pd.DataFrame(self.scores)) if self.scores else pd.DataFrame(columns=PAIR_COLUMNS)
        pairs = pd.concat([part for part in (pd.DataFrame(self.pairs), judged) if len(part)] or [judged])
        if not len(pairs):
            raise UserError(
                "preferences: no two trajectories of one prompt have different scores; nothing can be learnt"
            )
        # Columns of Python's own objects: a generated text has its tokens beside it.
        columns = {name: pd.Series([row[name] for row in self.rows], dtype=object) for name in self.rows[0]}
        return Preferences(pd.DataFrame(columns), pairs[PAIR_COLUMNS].reset_index(drop=True), self.told)


def known_variables(source: Any) -> int | None:
    """How many variables the first row of a source has values of, as far as its form tells without the system: 1 where
    only outputs are there. None where it does not, or where all would have to be read.

    Raises `UserError` where there is no such file.
    """
    row: Any = None
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists():
            raise UserError(f"preferences: '{path}' should be a file or a folder; there is none")
        if path.is_dir():
            return 1
        if path.suffix == ".jsonl":
            row = _first_line(path)
    elif isinstance(source, (list, tuple)) and source:
        row = source[0]
    if not isinstance(row, Mapping):
        return None
    several = row.get(COMPLETIONS) or row.get(TIED)
    value = row.get(CHOSEN) or (several[0] if isinstance(several, list) and several else row.get(COMPLETION))
    if isinstance(value, Mapping) and not _is_picture(value):
        return len(set(map(variable_of, value)))
    return None if value is None else 1


def _rows(source: Any) -> tuple[list[Row], Path]:
    """The rows of a source, and the folder that paths in it start from."""
    folder = Path()
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            return _images(path), path
        folder = path.parent
        if path.suffix == ".jsonl":
            return _read_lines(path), folder
        if path.suffix == ".json":
            try:
                source = json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise UserError(f"'{path}' should be a .json file, but cannot be read ({error})") from error
        else:
            source = read_table(path, ())
    if isinstance(source, pd.DataFrame):
        return [{str(name): value for name, value in row.items()} for row in source.to_dict("records")], folder
    if isinstance(source, (str, bytes, Mapping)) or not isinstance(source, Iterable):
        raise UserError("preferences: they should be a file, a folder, a data frame, a data set, or a list of mappings")
    rows = list(source)
    if not all(isinstance(row, Mapping) for row in rows):
        raise UserError("preferences: they should be a file, a folder, a data frame, a data set, or a list of mappings")
    return rows, folder


def _first_line(path: Path) -> Any:
    """The first row, None where it is none: whoever reads them all says so."""
    try:
        with path.open() as lines:
            return next((json.loads(line) for line in lines if line.strip()), None)
    except (OSError, ValueError):
        return None


def _read_lines(path: Path) -> list[Row]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' should be a .jsonl file, but cannot be read ({error})") from error
    rows = []
    for number, line in enumerate(lines):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"'{path}', line {number + 1}: it should be a mapping in JSON ({error})") from error
    return rows


def _images(folder: Path) -> list[Row]:
    """A row for each name that has a chosen and a rejected image."""
    sides = {side: _by_stem(folder / side) for side in (CHOSEN, REJECTED)}
    if alone := sorted(sides[CHOSEN].keys() ^ sides[REJECTED].keys()):
        raise UserError(
            f"'{folder}': '{alone[0]}' should be in {CHOSEN}/ and in {REJECTED}/; it is in one of them alone"
        )
    described: dict[str, Row] = {}
    for name in ("metadata.jsonl", "metadata.csv"):
        if (folder / name).is_file():
            rows, _ = _rows(folder / name)
            described |= {Path(str(row.get("file_name", ""))).stem: row for row in rows}
    found: list[Row] = []
    for stem, image in sorted(sides[CHOSEN].items()):
        text = folder / f"{stem}.txt"
        if stem not in described and not text.is_file():
            raise UserError(f"'{folder}': the prompt of '{stem}' should be in {stem}.txt or in metadata.jsonl")
        inputs = {name: value for name, value in described.get(stem, {}).items() if name != "file_name"}
        prompt = inputs or {"prompt": text.read_text().strip()}
        found.append(prompt | {CHOSEN: str(image.resolve()), REJECTED: str(sides[REJECTED][stem].resolve())})
    return found


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"'{folder.parent}' should be a folder with the folders {CHOSEN}/ and {REJECTED}/")
    return {path.stem: path for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def _is_picture(value: Any) -> bool:
    return isinstance(value, Mapping) and {"bytes", "path"} == set(value)


def _picture(stored: Mapping[str, Any], folder: Path) -> Any:
    import io

    from PIL import Image

    content, path = stored["bytes"], folder / (stored["path"] or "")
    try:
        return Image.open(io.BytesIO(content) if content else path).convert("RGB")
    except OSError as error:
        raise UserError(f"preferences: '{path}' should be an image, but cannot be read ({error})") from error


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))
