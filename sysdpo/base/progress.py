"""Progress on stderr: steps, loss and time left, one line every few seconds."""

import sys
import time
from types import TracebackType

from sysdpo.base.errors import printable


class Progress:
    """Reports `name: step/total, values, time left` on stderr, at most every `interval` seconds and at the end.

    Of several processes on the same work only one is `shown`. Plain lines rather than a redrawn bar read the same on a
    terminal and in a log. `first`: steps done before.
    """

    def __init__(self, name: str, total: int, interval: float = 5.0, *, first: int = 0, shown: bool = True):
        self.name, self.total, self.interval = name, total, interval
        self.stream = sys.stderr if shown else None
        self.step = self.first = first

    def __enter__(self) -> "Progress":
        self.started = self.shown = time.monotonic()
        return self

    def update(self, **values: float) -> None:
        """Count one step, and show these numbers."""
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
