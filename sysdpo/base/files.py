"""Writing files and folders atomically, never over something of another kind; reading tables with clear errors."""

import errno
import itertools
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sysdpo.base.errors import UserError

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
"""Error numbers of a disk that fails or is full."""

MARKS = {".snakemake_timestamp"}
"""Files that a workflow itself leaves in a step's folder."""


@contextmanager
def whole(path: Path, holds: Collection[str] | None = None) -> Iterator[Path]:
    """A temporary path beside `path` for a file or folder, renamed to `path` when the block ends without an error.

    The data is flushed to disk before the rename. An existing `path` is replaced only by something of its kind: a file
    by one with the same columns, keys or first bytes, unless it is empty; a folder if each file in it is also in the
    new folder, or matches a name or pattern in `holds`. Raises `UserError` if the kinds differ, before the block where
    possible, or if `path` cannot be written; `path` is then left as it was.
    """
    target = path.resolve()  # a link is kept, and its target replaced
    if holds is not None and target.exists():
        _check_replaceable(target, path, is_folder=True, holds=holds)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        prefix = f"{_leftover(target)}{os.getpid()}-"
        scratch = tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(f"'{path}' cannot be written ({_reason(error)})") from error
    with scratch:
        temporary = Path(scratch.name) / target.name
        try:
            yield temporary
            if target.exists():
                names = _files_in(temporary) if holds is None else holds
                _check_replaceable(target, path, is_folder=temporary.is_dir(), holds=names, kind=_kind(temporary))
            _to_disk(temporary)
            _exchange(target, temporary)
            flush(target.parent)
        except Exception as error:
            if _is_of_the_disk(error, Path(scratch.name)):
                raise UserError(f"'{path}' cannot be written ({_reason(error)})") from error
            if isinstance(error, UserError) and str(temporary) in str(error):  # about a file within the folder
                raise UserError(str(error).replace(str(temporary), str(path))) from error
            raise


def _exchange(old: Path, new: Path) -> None:
    """Rename `new` to `old`; an existing folder, which cannot be replaced in one call, is first moved beside `new`."""
    aside = new.with_name(f"{new.name}.replaced")
    if old.is_dir():
        old.rename(aside)
    try:
        new.replace(old)
    except OSError:
        if aside.exists():
            aside.rename(old)
        raise


def _leftover(path: Path) -> str:
    """The prefix of this machine's temporary folders for `path`; the process id follows."""
    return f".{path.name}-{socket.gethostname()}-"


def _remove_leftovers(path: Path) -> None:
    """Delete what killed processes have left beside `path`."""
    for scratch in path.parent.iterdir():
        number = scratch.name.removeprefix(_leftover(path)).partition("-")[0]
        if scratch.name.startswith(_leftover(path)) and number.isdigit() and not _is_running(int(number)):
            shutil.rmtree(scratch, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _check_replaceable(old: Path, name: Path, *, is_folder: bool, holds: Collection[str], kind: Any = None) -> None:
    """Raises `UserError` if a folder with the files in `holds`, or a file of this `kind`, must not replace `old`."""
    if old.is_dir() != is_folder:
        old_kind, new_kind = ("file", "folder") if is_folder else ("folder", "file")
        raise UserError(f"'{name}' is a {old_kind}, where this step makes a {new_kind}; give the output another name")
    if is_folder:
        others = _files_in(old) - set(holds)
        strangers = sorted(file for file in others if not any(fnmatchcase(file, pattern) for pattern in holds))
        if strangers:
            raise UserError(
                f"'{name}' holds '{strangers[0]}', which this step does not make and would delete; give the output "
                "another name, or move that folder away"
            )
    elif old.stat().st_size and _kind(old) != kind:
        raise UserError(
            f"'{name}' is no file of the kind that this step makes and would replace it with; give the output another "
            "name, or move that file away"
        )


def _files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name not in MARKS}


def _kind(path: Path) -> Any:
    """What all versions of an output share: columns, keys or first bytes; None for a folder or an unreadable file."""
    if path.is_dir():
        return None
    with path.open("rb") as file:
        head = file.read(10)
        rest = head + file.readline() if path.suffix == ".csv" else b""
    if head.startswith(b"PAR1"):
        try:
            return pq.read_schema(path).names
        except (OSError, pa.ArrowException):
            return None
    if path.suffix == ".csv":
        return rest.partition(b"\n")[0]
    if path.suffix == ".json":
        try:
            return sorted(json.loads(path.read_text()))
        except (ValueError, TypeError):
            return None
    return "safetensors" if head[8:] == b'{"' else head[:4]


def _to_disk(path: Path) -> None:
    """Flush a file, or a folder and everything in it, to disk."""
    for entry in [*path.rglob("*"), path] if path.is_dir() else [path]:
        flush(entry)


def flush(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot flush folders
            raise
    finally:
        os.close(opened)


def _is_of_the_disk(error: Exception, scratch: Path) -> bool:
    if isinstance(error, OSError) and error.filename is not None and str(error.filename).startswith(str(scratch)):
        return True
    return _number(error) in DISK


def _number(error: Exception) -> int | None:
    """The operating system's error number, from the message if a library gives it only there."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = re.search(r"\b(?:os error|errno) (\d+)", str(error), re.IGNORECASE)
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    number = _number(error)
    return str(error) if number is None else os.strerror(number)


def check_outputs(outputs: Mapping[str, Path], inputs: Collection[Path]) -> None:
    """Raises `UserError` if an output (keyed by its option) is an input, contains one, or is another output."""
    seen: dict[Path, str] = {}
    for option, path in outputs.items():
        if (other := seen.setdefault(path.resolve(), option)) != option:
            raise UserError(f"--{option}: '{path}' should be another path than --{other}")
        for read in inputs:
            if read.resolve().is_relative_to(path.resolve()):
                raise UserError(
                    f"--{option}: '{path}' would replace '{read}', which this step reads; give another name"
                )


def unused_name(path: Path) -> Path:
    """`path`, or if that exists the first free one of `path-2`, `path-3` and so on."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not os.path.lexists(name))


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as `.csv` or `.parquet`, by the path's suffix."""
    with whole(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)


def read_table(path: Path, columns: Collection[str], *, allow_empty: bool = False) -> pd.DataFrame:
    """Read a `.csv` or `.parquet` table; raises `UserError` if it is unreadable, lacks a column, or has no rows."""
    if path.suffix != ".csv":
        return read_arrow(path, columns, allow_empty=allow_empty).to_pandas()
    # `null` is a valid name; only an empty cell is a missing value.
    table = _read(path, partial(pd.read_csv, keep_default_na=False, na_values=[""]))
    _require(table.columns, columns, f"'{path}'")
    _check_has_rows(path, len(table) or allow_empty)
    return table


def read_arrow(
    path: Path, columns: Collection[str], *, only: Sequence[str] | None = None, allow_empty: bool = False
) -> pa.Table:
    """`read_table` of a `.parquet` table as an arrow table, missing values as None. only: the columns to read."""
    _require(_read(path, pq.read_schema).names, columns, f"'{path}'")
    # Without this, pyarrow turns folder names like `a=b` into columns.
    table = _read(path, partial(pq.read_table, columns=only and list(only), partitioning=None))
    _check_has_rows(path, table.num_rows or allow_empty)
    return table


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"'{path}' should be a {path.suffix} table, but cannot be read ({reason})") from error


def _check_has_rows(path: Path, has_rows: object) -> None:
    if not has_rows:
        raise UserError(f"'{path}' has no rows; this step needs at least one")


def require_columns(table: pd.DataFrame, columns: Collection[str], name: str) -> None:
    """Raises `UserError` if the table of this name lacks a column."""
    _require(table.columns, columns, name)


def _require(present: Collection[str], columns: Collection[str], name: str) -> None:
    if missing := sorted(set(columns) - set(present)):
        raise UserError(f"{name} lacks the columns {missing}; it has {sorted(map(str, present))}")
