"""Questions with a chosen and a rejected answer, in the layout of the dataset Intel/orca_dpo_pairs."""

import json
from pathlib import Path

import pandas as pd

from sysdpo.base.errors import UserError
from sysdpo.base.files import require_columns

COLUMNS = ("system", "question", "chosen", "rejected")
KINDS = (".parquet", ".jsonl", ".json")
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
OFFLINE = (OSError, ValueError, RuntimeError)


def read_orca_pairs(source: str, revision: str | None = None, *, where: str) -> pd.DataFrame:
    """The string columns `system, question, chosen, rejected`; the index numbers the rows in reading order.

    source: a file or folder on this machine, or a hub id, with revision a commit or tag. A folder may hold parquet or
    JSON files at any depth; only the first kind found, in the order of `KINDS`, is read. where: the setting to name in
    errors. Rows with two equal answers are dropped, then all but the first row of each question.

    Raises `UserError` if there is no such dataset, or if it has no rows, other columns or values that are no strings.
    """
    tables = [_read(path, where) for path in _files(source, revision, where)]
    pairs = pd.concat(tables, ignore_index=True)
    plain = pairs.apply(lambda column: column.str.strip())
    pairs = pairs[plain["chosen"] != plain["rejected"]]
    pairs = pairs[~plain.loc[pairs.index, "question"].duplicated()]
    if pairs.empty:
        raise UserError(f"{where}.source: '{source}' should have rows whose chosen answer is not the rejected one")
    return pairs


def _files(source: str, revision: str | None, where: str) -> list[Path]:
    here = Path(source)
    if here.is_file():
        if here.suffix not in KINDS:
            raise UserError(f"{where}.source: '{source}' should end with one of {list(KINDS)}")
        return [here]
    folder = here if here.is_dir() else _fetch(source, revision, where)
    for kind in KINDS:
        files = [path.relative_to(folder) for path in sorted(folder.rglob(f"*{kind}"))]
        files = [path for path in files if path.name not in DESCRIPTIONS and not str(path).startswith(".")]
        if files:
            return [folder / path for path in files]
    raise UserError(f"{where}.source: '{source}' should hold files that end with one of {list(KINDS)}")


def _fetch(source: str, revision: str | None, where: str) -> Path:
    """The dataset's folder in the hub's cache, downloaded if necessary."""
    # Imported here because it takes a second, and only datasets on the hub need it.
    from huggingface_hub import snapshot_download

    patterns = [f"*{kind}" for kind in KINDS]
    try:
        return Path(snapshot_download(source, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except OFFLINE as error:
        at = f" at {where}.revision '{revision}'" if revision else ""
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{where}.source: '{source}'{at} should be a file or folder on this machine, or the hub id of a data set "
            f"that can be fetched or was fetched before ({type(error).__name__}: {reason})"
        ) from error


def _read(path: Path, where: str) -> pd.DataFrame:
    name = f"{where}.source: '{path}'"
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_json(path)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{name} should be a {path.suffix} table, but cannot be read ({reason})") from error
    if table.empty:
        raise UserError(f"{name} has no rows; it should have at least one")
    require_columns(table, COLUMNS, name)
    for column in COLUMNS:
        for row, value in enumerate(table[column]):
            if not isinstance(value, str):
                content = "null" if pd.api.types.is_scalar(value) and pd.isna(value) else repr(value)
                raise UserError(f"{name} has {content} in the column '{column}' of row {row}, which should be a text")
    return table[list(COLUMNS)].astype(object)


def _read_json(path: Path) -> pd.DataFrame:
    """A JSON list of rows, or one row per line: files named `.json` contain either."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        return pd.DataFrame(json.loads(text))
    # Not `splitlines`: JSON strings may contain unescaped line separators other than the newline.
    return pd.DataFrame([json.loads(line) for line in text.split("\n") if line.strip()])
