"""Progress for people and for logs: steps, loss and time left, a line every few seconds."""

import sys
import time
from types import TracebackType

from sysdpo.base.errors import printable


class Progress:
    """Reports `name: step/total, values, time left` on stderr, at most every `interval` seconds and at the end.

    Of several processes at the same work all but one are not `shown`. Plain lines, not a redrawn bar: they read the
    same on a terminal, in a job's log and in a cluster's. `first` steps have been done before.
    """

    def __init__(self, name: str, total: int, interval: float = 5.0, *, first: int = 0, shown: bool = True):
        self.name, self.total, self.interval = name, total, interval
        self.stream = sys.stderr if shown else None
        self.step = self.first = first

    def __enter__(self) -> "Progress":
        self.started = self.shown = time.monotonic()
        return self

    def update(self, **values: float) -> None:
        """One step is done, with these numbers to show."""
        self.step += 1
        now = time.monotonic()
        if now - self.shown >= self.interval or self.step == self.total:
            self.shown = now
            left = (now - self.started) / (self.step - self.first) * (self.total - self.step)
            numbers = "".join(f", {key} {value:.4g}" for key, value in values.items())
            self._tell(f"{self.name}: {self.step}/{self.total}{numbers}, {left:.0f} s left")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self.total:
            seconds = time.monotonic() - self.started
            self._tell(f"{self.name}: done in {seconds:.1f} s")

    def _tell(self, line: str) -> None:
        if self.stream is not None:
            print(printable(line), file=self.stream, flush=True)
