"""Ctrl-C that lets the step in progress finish, once there is something to save."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self

__all__ = ["INTERRUPTED", "GracefulStop"]

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended
_NOTE = b"\nstopping after this step, then saving; Ctrl-C again gives up at once\n"
_STDERR = 2


class GracefulStop:
    """While its block runs, Ctrl-C sets `requested`; a second one raises KeyboardInterrupt.

    So does the first as long as nothing has `begun`, which whoever has something to save sets.
    """

    def __init__(self) -> None:
        """Nothing has been requested yet."""
        self.begun = self.requested = False

    def __enter__(self) -> Self:
        """Take over the signal."""
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Give the signal back."""
        signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.begun:
            raise KeyboardInterrupt
        self.requested = True
        os.write(_STDERR, _NOTE)  # a stream may be in the middle of a write of its own
