from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dynadiag as dd

LIGHT = """
import json, sys
import dynadiag
heavy = ("pandas", "matplotlib", "cupy", "pytest", "hypothesis", "jinja2", "psutil")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_all_names_what_there_is() -> None:
    assert len(set(dd.__all__)) == len(dd.__all__)
    assert all(hasattr(dd, name) for name in dd.__all__)
    namespace: dict[str, object] = {}
    exec("from dynadiag import *", namespace)
    assert set(dd.__all__) == set(namespace) - {"__builtins__"}


@pytest.mark.parametrize(
    "name", ["backends", "dense_to_diagonal", "diagonal_linear", "diagonal_to_dense", "nn"]
)
def test_the_promised_names_are_public(name: str) -> None:
    assert name in dd.__all__


def test_the_layers_are_public() -> None:
    assert "DiagonalLinear" in dd.nn.__all__
    assert all(hasattr(dd.nn, name) for name in dd.nn.__all__)


def test_import_is_light_and_compiles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIGHT],
        env=os.environ | {"DYNADIAG_CACHE": str(tmp_path / "cache"), "CXX": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == []
    assert not (tmp_path / "cache").exists()


def test_the_pieces_fit_together() -> None:
    torch.manual_seed(0)
    layer = dd.nn.DiagonalLinear(12, 20, sparsity=0.8)
    x = torch.randn(2, 12)
    y = dd.diagonal_linear(x, layer.values, layer.offsets, layer.bias, out_features=20)
    dense = dd.diagonal_to_dense(layer.values, layer.offsets, out_features=20, in_features=12)
    torch.testing.assert_close(y, layer(x))
    torch.testing.assert_close(y, torch.nn.functional.linear(x, dense, layer.bias))
    assert torch.equal(dd.dense_to_diagonal(dense, layer.offsets), layer.values)
