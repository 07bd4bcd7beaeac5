"""How far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm


class Progress:
    """Cases done, the current case and the time left, on standard error."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._bar = tqdm(
            total=total,
            file=sys.stderr,
            disable=not _terminal(),
            dynamic_ncols=True,
            bar_format="{n}/{total} cases |{bar:20}| {remaining} left, now {desc}",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def begin(self, case: str) -> None:
        """Show the case that is being measured."""
        self._bar.set_description_str(case, refresh=True)
        if self._bar.disable:
            print(f"[{self._done + 1}/{self._total}] {case}{self._left()}", file=sys.stderr)

    def end(self) -> None:
        """Count one more case as done."""
        self._done += 1
        self._bar.update()

    def _left(self) -> str:
        if not self._done:
            return ""
        seconds = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return f", {tqdm.format_interval(seconds)} left"


def _terminal() -> bool:
    # Some pseudo-terminals say they are 0 characters wide; a bar shows nothing on those.
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
