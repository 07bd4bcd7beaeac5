"""The folder of a run: what it is, how far it is, and how it ended."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from dynadiag.bench.files import append, keep_lines, replace, temporary
from dynadiag.bench.schema import dump, plain
from dynadiag.train.run import Run

CONFIG, METRICS, CHECKPOINT = "config.json", "metrics.jsonl", "last.pt"
MODEL, EXAMPLES, TRACE, RESULT = "model.safetensors", "examples.npz", "trace.npz", "result.json"
LOG = "log.txt"


class TrainError(Exception):
    """A run that cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Result:
    """How a finished run ended.

    Attributes:
        folder: of the run.
        steps: optimizer steps taken.
        seconds: spent in steps, over all parts of an interrupted run.
        sparsity: reached over the converted layers; 0 for a dense run.
        validation: `loss` (nats) and `accuracy` (0 to 1) of the frozen model.
        test: the same on the test split.
        trained: the same on the test split before the model was frozen.
        change: of the output by freezing, ‖after - before‖ / ‖before‖ on a few examples.
    """

    folder: Path
    steps: int
    seconds: float
    sparsity: float
    validation: dict[str, float]
    test: dict[str, float]
    trained: dict[str, float]
    change: float

    def examples(self) -> dict[str, NDArray[np.float32]]:
        """Return `loss` and `correct` (0 to 1) of every example of the test split, in order."""
        with np.load(self.folder / EXAMPLES, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


@final
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder.
    """

    def __init__(self, root: Path, run: Run) -> None:
        self.path = root / run.name
        self._config = run.config()

    def claim(self) -> None:
        """Make the folder this run's.

        Raises:
            TrainError: if it is another run's.
        """
        path = self.path / CONFIG
        if not path.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            replace(path, json.dumps(self._config, indent=2) + "\n")
        elif _read(path) != self._config:
            raise TrainError(
                f"{self.path} holds a run of another configuration; move it away or choose "
                "another root"
            )

    def result(self) -> Result | None:
        """Return how the run ended, or None if it has not."""
        return read_result(self.path) if (self.path / RESULT).exists() else None

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to the metrics."""
        append(self.path / METRICS, (dump(plain(line)) + "\n").encode())

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, which remembers how many lines of metrics there are."""
        lines = _count_lines(self.path / METRICS)
        with temporary(self.path / CHECKPOINT) as partial:
            torch.save({**state, "lines": lines}, partial)

    def restore(self) -> dict[str, Any] | None:
        """Return the checkpoint, or None; metrics written after it are dropped."""
        path = self.path / CHECKPOINT
        if not path.exists():
            if (self.path / METRICS).exists():
                keep_lines(self.path / METRICS, 0)
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise _damaged(path, "no checkpoint of torch") from error
        keep_lines(self.path / METRICS, state.pop("lines"))
        return state

    def save_arrays(self, name: str, arrays: dict[str, NDArray[Any]]) -> None:
        """Write `arrays` as the compressed archive `name`."""
        with temporary(self.path / name) as partial, partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    def finish(self, result: Result) -> None:
        """Write how the run ended, after which the checkpoint is of no use."""
        fields = dataclasses.asdict(result)
        del fields["folder"]
        replace(self.path / RESULT, dump(plain(fields), indent=2) + "\n")
        (self.path / CHECKPOINT).unlink(missing_ok=True)


def read_result(folder: Path) -> Result:
    """Return how the run in `folder` ended.

    Raises:
        TrainError: if it has not ended.
    """
    try:
        fields = _read(folder / RESULT)
    except FileNotFoundError as error:
        raise TrainError(f"{folder} holds no finished run: no {RESULT} in it") from error
    try:
        return Result(folder=folder, **{name: _with_nan(value) for name, value in fields.items()})
    except (TypeError, AttributeError) as error:
        raise _damaged(folder / RESULT, error) from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error


def _with_nan(value: Any) -> Any:
    """Return what JSON, which has no NaN, holds as null: a loss that diverged."""
    if isinstance(value, dict):
        return {name: _with_nan(each) for name, each in value.items()}
    return math.nan if value is None else value


def _damaged(path: Path, reason: object) -> TrainError:
    return TrainError(f"{path} is damaged: {reason}; delete {path.parent} to train again")


def _count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
