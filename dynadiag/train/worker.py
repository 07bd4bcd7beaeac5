"""One process of a pool: reads a run as a line of JSON, executes it, answers with a line.

What a run prints, and how it failed, goes to `log.txt` in its folder.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

import torch

from dynadiag.train.folder import LOG, RunFolder
from dynadiag.train.loop import execute
from dynadiag.train.place import Place
from dynadiag.train.run import Run


def main() -> int:
    """Serve until there are no more orders."""
    torch.set_num_threads(1)
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        try:
            for order in sys.stdin:
                print(json.dumps({"error": _obey(json.loads(order))}), file=answers, flush=True)
        except KeyboardInterrupt:
            return 130
    return 0


def _obey(order: dict[str, Any]) -> str | None:
    """Execute the run of an order; return what went wrong, or None."""
    run, place = Run.from_config(order["run"]), Place.from_config(order["place"])
    _print_to(RunFolder(place.root, run))
    try:
        execute(run, place)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def _print_to(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / LOG).open("a", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
