"""A process of a pool, as the pool sees it; what it runs is `dynadiag.train.worker`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import final

import torch

from dynadiag.train.place import Place
from dynadiag.train.run import Run


@final
class Member:
    """A process that executes one run after another.

    Args:
        place: where.
        slot: its number in the pool, which decides the GPU it sees.
    """

    def __init__(self, place: Place, slot: int) -> None:
        self._place, self._slot = place, slot
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        # In a session of its own: Ctrl-C in a terminal reaches the pool alone, which passes it on.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "dynadiag.train.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | _environment(self._slot),
            start_new_session=True,
        )

    def execute(self, run: Run) -> str | None:
        """Return what went wrong, or None."""
        if self._process.poll() is not None:
            self._process = self._start()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        order = {"run": run.config(), "place": self._place.config()}
        print(json.dumps(order), file=stdin, flush=True)
        answer = stdout.readline()
        if not answer:
            return f"{run.name}: its process ended with exit code {self._process.wait()}"
        error: str | None = json.loads(answer)["error"]
        return None if error is None else f"{run.name}: {error}"

    def interrupt(self) -> None:
        """Have the process save the run it is in, and end."""
        self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Wait for the process, which ends when it gets no more orders."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
            self._process.wait()


def _environment(slot: int) -> dict[str, str]:
    """One thread, and one of the GPUs if there are any."""
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
    if not devices:
        return one_thread
    return one_thread | {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]}
