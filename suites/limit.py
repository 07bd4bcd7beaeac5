"""A limit in time for work that does not watch the clock itself, such as a library's search."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Less than a timer can be set to: an alarm that is due already comes at once.
_SOON = 1e-3
_deadlines: list[float] = []


class OutOfTime(BaseException):
    """The time is over; no `Exception`, so that nothing on the way takes it for a failed call."""


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Raise `OutOfTime` in the block once it has taken so long (None: never); limits may be nested.

    An alarm is heard between two steps of Python: a single long call into a library is not cut
    short. Without POSIX timers, and outside the main thread, nothing is limited.
    """
    if seconds is None or not hasattr(signal, "setitimer") or not _in_main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, _out)
    _deadlines.append(time.monotonic() + seconds)
    _set_alarm()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _deadlines.pop()
        signal.signal(signal.SIGALRM, before)
        _set_alarm()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _out(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def _set_alarm() -> None:
    if _deadlines:
        left = min(_deadlines) - time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, max(left, _SOON))
