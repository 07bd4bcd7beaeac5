"""A wish to stop, heard between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self, final


@final
class Interrupt:
    """While entered, SIGINT and SIGTERM are remembered; the second of them acts at once.

    A handler that somebody else installed stays (submitit's, for one). Only a main thread can
    enter.

    Attributes:
        wanted: whether a signal has come.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
