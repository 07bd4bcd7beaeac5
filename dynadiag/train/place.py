"""Where runs are executed; nothing of it changes what they compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Place:
    """Where runs are executed.

    Attributes:
        root: the folder that holds the folders of the runs; all processes of a run must see it.
        data: the folder with the files of a data set that is not bundled.
        device: such as `cpu` or `cuda:1`; None takes a CUDA device where there is one.
        loaders: processes that prepare the batches of a run; 0 prepares them in its own.
        save_every: seconds between two checkpoints.
    """

    root: Path
    data: Path | None = None
    device: str | None = None
    loaders: int = 0
    save_every: float = 60.0

    def config(self) -> dict[str, Any]:
        """Return the place as JSON values, from which `from_config` makes it again."""
        paths = {"root": str(self.root), "data": None if self.data is None else str(self.data)}
        return dataclasses.asdict(self) | paths

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the place that `config` describes."""
        data = config["data"]
        paths = {"root": Path(config["root"]), "data": None if data is None else Path(data)}
        return cls(**{**config, **paths})
