"""Sentences for people."""

import pytest

from sysdpo.base.errors import UserError, tell
from sysdpo.base.progress import Progress

ESCAPES = "red\x1b[31m \x07bell\x9b2J\nnext\r"
SAFE = "red\\x1b[31m \\x07bell\\x9b2J next"


def test_a_sentence_is_one_line_and_does_nothing_to_a_terminal() -> None:
    assert str(UserError(ESCAPES)) == SAFE
    assert str(UserError("größe: 'β' − 「」")) == "größe: 'β' − 「」"


def test_progress_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(ESCAPES, 1):
        pass
    assert capsys.readouterr().err.startswith(SAFE)


def test_a_warning_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell(ESCAPES)
    assert capsys.readouterr().err == f"sysdpo: {SAFE}\n"
