"""The file of what people have judged: a line a judgement, on disk before the next one is asked for.

A line is a preference in the form of whole trajectories, which `read_preferences` takes as it is, and says under
`annotation` who judged what, and when. A tie has `tied` in the place of `chosen` and `rejected`.
"""

import fcntl
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sysdpo.base.errors import UserError, tell
from sysdpo.base.files import flush, whole
from sysdpo.library.annotation_pairs import Pair, picture_name
from sysdpo.library.preferences import ANNOTATION, CHOSEN, REJECTED, TIED
from sysdpo.method.preferences import JSON, variable_of

FIRST, SECOND, TIE = "first", "second", "tie"
CHOICES = (FIRST, SECOND, TIE)
OWN = {ANNOTATION, CHOSEN, REJECTED, TIED}
"""What a line has besides the values of inputs, and no variable can be called."""
START = f'{{"{ANNOTATION}": '
"""How each line begins, so that the file is known for what it is."""


@dataclass(frozen=True)
class Judgement:
    """What one person said of one pair.

    preferred: `first`, `second` or `tie`. left: which of the two was shown on the left. time: in UTC, ISO 8601.
    first, second: where the two come from, their `trajectory_id` and the `method`, if any.
    """

    pair: str
    annotator: str
    preferred: str
    left: str
    time: str
    first: Mapping[str, str]
    second: Mapping[str, str]


class Journal:
    """A file of judgements, and the folder of their pictures beside it; one process at a time writes there.

    variables: those of the system that is judged. A line that a killed process has left unfinished is dropped.
    Raises `UserError` about a file that holds anything else, or that another process writes to; it is left as it was.
    """

    def __init__(self, path: Path, variables: Collection[str]):
        if wrong := sorted(OWN & {*variables}):
            raise UserError(f"system: its variable '{wrong[0]}' has a name that files of preferences use themselves")
        self.path, self.pictures = path, path.with_name(f"{path.stem}-pictures")
        self._lock = _locked(path)
        try:
            self.judgements = self._read(variables)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes write there."""
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def of(self, annotator: str) -> dict[str, Judgement]:
        """What one person has judged so far, by pair, in that order."""
        return {judged.pair: judged for judged in self.judgements if judged.annotator == annotator}

    def add(self, pair: Pair, annotator: str, preferred: str, left: str) -> bool:
        """Keep a judgement; when this returns it is on disk. False where this person has judged the pair before: the
        first judgement stands.

        Raises `UserError` if it cannot be written; it is then not there in part, either.
        """
        if pair.id in self.of(annotator):
            return False
        now = datetime.now(UTC).isoformat(timespec="seconds")
        judged = Judgement(pair.id, annotator, preferred, left, now, pair.first.origin, pair.second.origin)
        try:
            self._append(f"{json.dumps(self._row(pair, judged))}\n".encode())
        except OSError as error:
            raise UserError(f"'{self.path}' cannot be written ({error.strerror}); nothing was added") from error
        self.judgements.append(judged)
        return True

    def _row(self, pair: Pair, judged: Judgement) -> dict[str, Any]:
        """The judgement as a preference; its pictures are written."""
        row: dict[str, Any] = {ANNOTATION: asdict(judged)} | self._values(pair.inputs)
        if pair.content is not None and "content" not in row:
            row["content"] = pair.content
        values = {side: self._values(pair.sides[side].stored) for side in (FIRST, SECOND)}
        if judged.preferred == TIE:
            return row | {TIED: list(values.values())}
        rejected = SECOND if judged.preferred == FIRST else FIRST
        return row | {CHOSEN: values[judged.preferred], REJECTED: values[rejected]}

    def take_back(self, annotator: str, pair: str) -> bool:
        """Delete a person's judgement of a pair, if that is the last one that this person has given."""
        own = self.of(annotator)
        if not own or list(own)[-1] != pair:
            return False
        lines = self.path.read_bytes().splitlines(keepends=True)
        if len(lines) != len(self.judgements):
            raise UserError(f"'{self.path}' has been changed by another program; stop, and start again")
        kept = [line for line, judged in zip(lines, self.judgements, strict=True) if judged is not own[pair]]
        if kept:
            with whole(self.path) as temporary:
                temporary.write_bytes(b"".join(kept))
        else:
            self.path.unlink()
            flush(self.path.parent)
        self.judgements.remove(own[pair])
        return True

    def _values(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """In JSON's types; a picture is written to its file, and named by the path from here."""
        found = {}
        for name, value in stored.items():
            if isinstance(value, bytes):
                picture = self.pictures / picture_name(value)
                if not picture.is_file():
                    _write_picture(picture, value)
                value = {"bytes": None, "path": f"{self.pictures.name}/{picture.name}"}
            found[name] = json.loads(value) if name.endswith(JSON) else value
        return found

    def _append(self, line: bytes) -> None:
        is_new = not self.path.exists()
        with self.path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(line):
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        if is_new:
            flush(self.path.parent)

    def _read(self, variables: Collection[str]) -> list[Judgement]:
        """What is there, after the last line has been mended where a process was killed while it wrote it."""
        found, rest = _parsed(self.path, variables)
        if not rest:
            return found
        try:
            json.loads(rest)
        except ValueError:
            tell(f"'{self.path}': its last line was never finished, and is dropped")
            os.truncate(self.path, self.path.stat().st_size - len(rest))
            return found
        judged = _judgement(rest, self.path, len(found) + 1, variables)  # its end alone is missing
        self._append(b"\n")
        return [*found, judged]


def read_judgements(path: Path, variables: Collection[str]) -> list[Judgement]:
    """Those in a file that another process may be writing to: a line counts when it is finished."""
    return _parsed(path, variables)[0]


def _parsed(path: Path, variables: Collection[str]) -> tuple[list[Judgement], bytes]:
    """The finished lines, and what comes after them. Raises `UserError` about anything but judgements."""
    *lines, rest = (path.read_bytes() if path.exists() else b"").split(b"\n")
    found = [_judgement(line, path, number, variables) for number, line in enumerate(lines, 1)]
    if not rest.startswith(START.encode()[: len(rest)]):
        raise _other(path, len(lines) + 1)
    return found, rest


def _judgement(line: bytes, path: Path, number: int, variables: Collection[str]) -> Judgement:
    try:
        row = json.loads(line)
        judged = Judgement(**row[ANNOTATION])
        sides = row[TIED] if judged.preferred == TIE else [row[CHOSEN], row[REJECTED]]
        names = {variable_of(name) for name in (*row, *sides[0], *sides[1])}
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise _other(path, number) from error
    if names - OWN - {"content"} != set(variables) - {"content"}:
        raise UserError(
            f"--output: '{path}', line {number} should have the variables {sorted(variables)}; it is about another "
            "system, whose judgements should be in a file of their own"
        )
    return judged


def _other(path: Path, number: int) -> UserError:
    return UserError(
        f"--output: '{path}', line {number} should be a judgement as `sysdpo annotate` writes them; give another name"
    )


def _locked(path: Path) -> IO[bytes]:
    """A file beside the path that no other process has locked, until it is closed or the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"--output: '{path}' is written by another `sysdpo annotate` already; several people may use one page"
        ) from error
    except OSError as error:
        raise UserError(f"--output: '{path}' cannot be written ({error.strerror})") from error
    return lock


def _write_picture(path: Path, png: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    flush(path.parent.parent)
    with whole(path) as temporary:
        temporary.write_bytes(png)
