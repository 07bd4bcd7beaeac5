"""How far a run or a pool is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self, final

from tqdm import tqdm


@final
class Progress:
    """What is done of a total and the time left, on standard error.

    Args:
        total: how many there are.
        unit: what they are, such as steps.
        start: how many were done before.
        quiet: print nothing.
    """

    def __init__(self, total: int, unit: str, *, start: int = 0, quiet: bool = False) -> None:
        self._bar = tqdm(
            total=total,
            initial=start,
            file=sys.stderr,
            disable=quiet or not _terminal(),
            dynamic_ncols=True,
            bar_format="{n}/{total} " + unit + " |{bar:20}| {remaining} left{postfix}",
        )
        self._lines = self._bar.disable and not quiet

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def step(self) -> None:
        """Count one more as done."""
        self._bar.update()

    def tell(self, news: str) -> None:
        """Show the latest news beside the bar, or as a line."""
        if self._lines:
            print(news, file=sys.stderr)
        else:
            self._bar.set_postfix_str(news, refresh=False)


def _terminal() -> bool:
    # Some pseudo-terminals say they are 0 characters wide; a bar shows nothing on those.
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
