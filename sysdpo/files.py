"""Outputs appear whole or not at all; inputs are read with errors a person understands."""

import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from sysdpo.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` for a file or folder, renamed to `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        temporary = Path(scratch) / path.name
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as `.csv` or `.parquet`, by the path's ending."""
    with whole(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)


def read_table(path: Path, columns: Collection[str], *, allow_empty: bool = False) -> pd.DataFrame:
    """Read a `.csv` or `.parquet` table; raises `UserError` if it is none, lacks a column, or has no rows."""
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' should be a {path.suffix} table, but cannot be read ({error})") from error
    require_columns(table, columns, f"'{path}'")
    if table.empty and not allow_empty:
        raise UserError(f"'{path}' has no rows; this step needs at least one")
    return table


def require_columns(table: pd.DataFrame, columns: Collection[str], name: str) -> None:
    """Raises `UserError` if the table of this name lacks a column."""
    if missing := sorted(set(columns) - set(table.columns)):
        raise UserError(f"{name} lacks the columns {missing}; it has {sorted(map(str, table.columns))}")
