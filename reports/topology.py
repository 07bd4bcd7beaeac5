"""How the topology of a layer moved while it was trained: one archive a method."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FOLDER = "topology"
COLUMNS = ["task", "method", "share", "layer", "shape", "step", "active", "alpha"]


def traces(run: Path) -> pd.DataFrame:
    """One row a trace, its arrays in the cells; unreadable archives are left out.

    ``step`` is (u,), one entry a look; ``active`` is (u, P) for diagonals and (u, M, N) for masks;
    ``alpha`` is (u, P) or None; ``shape`` is (M, N) or None where the archive does not tell.
    """
    files = sorted((run / FOLDER).glob("*.npz"))
    frame = pd.DataFrame([row for path in files for row in _read(path)], columns=COLUMNS)
    # All methods of a task are watched in one layer, so that a mask tells its size for diagonals.
    told = frame[frame["shape"].notna()].groupby("task")["shape"].first().to_dict()
    shapes = [told.get(task) for task in frame["task"]]
    return frame.assign(shape=pd.Series(shapes, index=frame.index, dtype=object))


def _read(path: Path) -> Iterator[list[Any]]:
    parts = path.stem.rsplit("-", 2)
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return
    if len(parts) < 3 or not {"step", "active"} <= stored.keys():
        return
    active = stored["active"].astype(bool)
    if active.ndim in (2, 3) and len(active) == len(stored["step"]) > 0:
        layer = str(stored.get("layer", ""))
        shape = _shape(stored, active)
        yield [*parts, layer, shape, stored["step"], active, stored.get("alpha")]


def _shape(stored: dict[str, NDArray[Any]], active: NDArray[np.bool_]) -> tuple[int, int] | None:
    if active.ndim == 3:
        return int(active.shape[1]), int(active.shape[2])
    if {"out_features", "in_features"} <= stored.keys():
        return int(stored["out_features"]), int(stored["in_features"])
    return None


def diagonals(frame: pd.DataFrame) -> pd.DataFrame:
    """The traces of layers of diagonals."""
    flat = np.array([active.ndim == 2 for active in frame["active"]], dtype=bool)
    return frame[flat]


def cells(active: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The (M, N) entries that are active, of diagonals (P,) or of a mask (M, N)."""
    if active.ndim == 2:
        return active
    out_features, in_features = shape
    row, column = np.indices(shape)
    # Offset of each entry; the longer side wraps (arXiv 2506.11449, appendix A).
    tall = out_features >= in_features
    offset = (row - column) % out_features if tall else (column - row) % in_features
    return np.asarray(active[offset])


def provenance(frame: pd.DataFrame) -> str:
    """Where the traces come from, for the foot of a figure."""
    one = frame.iloc[0]
    known = [f"layer {one['layer']}"] if one["layer"] else []
    sizes = [f"{one['shape'][0]} x {one['shape'][1]} weight"] if one["shape"] else []
    share = f"{one['share'].removeprefix('s')} % sparsity over the model"
    return " · ".join([one["task"], *known, *sizes, share, "one seed"])
