from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from dynadiag import data
from dynadiag.data.mnist import read_idx


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write(folder: Path, *, packed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 36), ("t10k", 7)):
        images = np.arange(count * 28 * 28, dtype=np.uint8).reshape(count, 28, 28)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(array)
            if packed:
                (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{part}-{name}-ubyte").write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", [".", "MNIST/raw"])
def test_files_are_found_and_read(tmp_path: Path, below: str, packed: bool) -> None:
    write(tmp_path / below, packed=packed)
    mnist = data.load("mnist", tmp_path)
    assert [len(s) for s in (mnist.train, mnist.validation, mnist.test)] == [33, 3, 7]
    x, y = next(mnist.test.batches(10))
    assert x.shape == (7, 1, 28, 28)
    assert y.tolist() == list(range(7))


def test_rows_and_columns_keep_their_order(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(idx(array))
    assert torch.equal(read_idx(tmp_path / "file"), torch.from_numpy(array))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"no t10k-labels-idx1-ubyte or .*\.gz in .*raw"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"<html>", idx(np.zeros(9, np.uint8))[:-1], bytes([0, 0, 8, 3, 0, 0])]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken .*fetch it again"):
        read_idx(tmp_path / "broken")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    for content in (b"plain", gzip.compress(idx(np.zeros(9, np.uint8)))[:-9]):
        (tmp_path / "broken.gz").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"broken\.gz cannot be decompressed: .*; fetch it again"
        ):
            read_idx(tmp_path / "broken.gz")


def test_files_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    write(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(ValueError, match=r"t10k files hold images \(7, 28, 28\) and labels \(5,\)"):
        data.load("mnist", tmp_path)
