"""What people and logs are told."""

import pytest

from sysdpo.base.progress import Progress


def test_the_last_step_is_shown_with_its_numbers_and_the_total_time(capsys: pytest.CaptureFixture) -> None:
    with Progress("train direct", 2, interval=1e9) as progress:
        progress.update(loss=0.9)
        progress.update(loss=0.5)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "train direct: 2/2, loss 0.5, 0 s left"
    assert last.startswith("train direct: done in ")


def test_every_step_is_shown_at_an_interval_of_zero(capsys: pytest.CaptureFixture) -> None:
    with Progress("sample", 3, interval=0.0) as progress:
        for _ in range(3):
            progress.update()
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()[:3]] == [
        "sample: 1/3",
        "sample: 2/3",
        "sample: 3/3",
    ]


def test_a_failure_does_not_claim_to_be_done(capsys: pytest.CaptureFixture) -> None:
    def fail() -> None:
        with Progress("train", 5):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert "done" not in capsys.readouterr().err
