"""Telling how far a pass is, a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]
"""Called with bytes read and bytes in all."""
_EVERY_S = 0.2


class ProgressThrottle:
    """Calls ``progress`` at most five times a second, and once at the end."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self.progress = progress
        self.total = total
        self._next = time.monotonic() + _EVERY_S

    def update(self, done: int) -> None:
        """Tell, if it is time to."""
        if self.progress is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY_S
            self.progress(done, max(done, self.total))

    def close(self, done: int) -> None:
        """Tell that the pass is over."""
        if self.progress is not None:
            self.progress(done, done)
