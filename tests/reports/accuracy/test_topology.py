"""The traces of topologies, and exactly what the figures draw of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dynadiag.nn import DiagonalLinear
from dynadiag.reports import load, topology
from dynadiag.reports.figures import active_diagonals, alpha_paths, diagonal_map, overlap

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def traces(make_training: Make) -> pd.DataFrame:
    few = {"tasks": ("digits-mlp",), "sparsities": (0.9,), "methods": ("rigl",), "seeds": 1}
    return load.load(make_training(**few, looks=12)).traces


def test_paths_of_alpha_are_told_apart_by_what_became_of_them(traces: pd.DataFrame) -> None:
    shown = alpha_paths.points(traces)
    trace = traces.set_index("method").loc["dynadiag"]
    own = shown[(shown["method"] == "dynadiag") & (shown["kind"] == alpha_paths.KEPT)]

    assert set(own["diagonal"].astype(int)) == set(np.flatnonzero(trace["active"][-1]))
    one = own[own["diagonal"] == own["diagonal"].iloc[0]]
    np.testing.assert_allclose(one["alpha"], trace["alpha"][:, int(one["diagonal"].iloc[0])])
    assert set(shown["method"]) == {"dynadiag", "dynadiag_paper"}


def test_strokes_add_up_to_what_was_active(traces: pd.DataFrame) -> None:
    shown = active_diagonals.points(traces)
    trace = traces.set_index("method").loc["dynadiag"]
    own = shown[shown["method"] == "dynadiag"]

    assert (own["end"] - own["start"]).sum() == 10 * trace["active"].sum()
    assert own["last"].sum() == trace["active"][-1].sum()


def test_overlap_is_the_share_that_stays(traces: pd.DataFrame) -> None:
    shown = overlap.points(traces).set_index("method")
    active = traces.set_index("method").loc["rigl", "active"]

    first = shown.loc["rigl"].iloc[0]
    assert first["next"] == pytest.approx((active[0] & active[1]).sum() / active[0].sum())
    assert (shown["end"] <= 1).all()


def test_the_map_marks_every_active_entry(traces: pd.DataFrame) -> None:
    shown = diagonal_map.points(traces)
    length = (shown["last"] - shown["first"] + 1).groupby(shown["method"]).sum()

    assert length["dynadiag"] == 26 * 64
    assert length["rigl"] == traces.set_index("method").loc["rigl", "active"][-1].sum()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_cells_follow_the_convention_of_the_layers(shape: tuple[int, int]) -> None:
    offsets = [0, 2, 3]
    layer = DiagonalLinear(shape[1], shape[0], bias=False, offsets=offsets)
    layer.values.data.fill_(1.0)
    active = np.zeros(max(shape), dtype=bool)
    active[offsets] = True

    assert (topology.cells(active, shape) == layer.weight.detach().numpy().astype(bool)).all()


def test_archives_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "topology"
    folder.mkdir()
    (folder / "digits-mlp-dynadiag-s90.npz").write_bytes(b"no archive")
    np.savez(folder / "digits-mlp-set-s90.npz", step=np.arange(2))
    np.savez(folder / "nameless.npz", step=np.arange(2), active=np.ones((2, 4)))

    assert topology.traces(tmp_path).empty


def test_without_the_size_of_the_layer_there_is_no_map_but_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "topology"
    folder.mkdir()
    path = folder / "digits-vit-dynadiag-s90.npz"
    np.savez(path, step=np.arange(3), active=np.eye(3, 5, dtype=bool), alpha=np.ones((3, 5)))
    found = topology.traces(tmp_path)

    assert diagonal_map.points(found).empty
    assert not active_diagonals.points(found).empty


def test_a_mask_tells_the_size_of_the_layer_for_diagonals(tmp_path: Path) -> None:
    folder = tmp_path / "topology"
    folder.mkdir()
    step, mask = np.arange(3), np.ones((3, 6, 4), dtype=bool)
    own = folder / "digits-vit-dynadiag-s90.npz"
    np.savez(own, step=step, active=np.eye(3, 6, dtype=bool))
    np.savez(folder / "digits-vit-set-s90.npz", step=step, active=mask)

    shown = diagonal_map.points(topology.traces(tmp_path))

    assert set(shown["method"]) == {"dynadiag"}
    assert len(shown) == 4
