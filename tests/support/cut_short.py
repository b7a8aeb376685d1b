"""Trainings that are cut short, and what they have logged."""

import json
from pathlib import Path
from typing import Any

import pytest

from sysdpo.method.checkpoints import Checkpoint


class CutShort(Exception):
    """What a time limit does."""


def cut_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The process ends after it has written so many checkpoints."""
    write, written = Checkpoint.write, []

    def counted(self: Checkpoint, **state: Any) -> None:
        write(self, **state)
        written.append(state)
        if len(written) == count:
            raise CutShort

    monkeypatch.setattr(Checkpoint, "write", counted)


def rows(folder: Path) -> list[dict[str, float]]:
    read = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read]
