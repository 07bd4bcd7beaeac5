from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dynadiag import data


def write(path: Path, key: bytes, count: int = 20) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3072), dtype=np.uint8)
    path.write_bytes(
        pickle.dumps({b"data": pixels, key: [i % 10 for i in range(count)]}, protocol=4)
    )


@pytest.fixture(params=[".", "cifar-10-batches-py"])
def ten(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        write(tmp_path / request.param / name, b"labels")
    return tmp_path


def test_cifar10_is_read(ten: Path) -> None:
    cifar = data.load("cifar10", ten)
    assert [len(s) for s in (cifar.train, cifar.validation, cifar.test)] == [90, 10, 20]
    x, y = next(cifar.test.batches(99))
    assert (x.shape, y.tolist()) == ((20, 3, 32, 32), 2 * list(range(10)))


def test_a_row_of_the_file_is_one_colour_after_the_other(tmp_path: Path) -> None:
    write(tmp_path / "train", b"fine_labels")
    write(tmp_path / "test", b"fine_labels")
    cifar = data.load("cifar100", tmp_path)
    assert cifar.classes == 100
    image = next(cifar.test.batches(1))[0][0]
    raw = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8))
    correlation = torch.corrcoef(torch.stack([image[1].flatten(), raw[0, 1024:2048].float()]))
    assert correlation[0, 1].item() == pytest.approx(1)


def test_training_batches_are_augmented_and_evaluation_is_not(ten: Path) -> None:
    train = data.load("cifar10", ten).train
    chosen = train.indices(0, seed=0, size=8)
    plain, _ = train.take(chosen)
    assert torch.equal(plain, train.take(chosen)[0])
    assert not torch.equal(plain, train.batch(0, seed=0, size=8)[0])


def test_a_missing_file_is_named(ten: Path) -> None:
    next(ten.rglob("data_batch_3")).unlink()
    with pytest.raises(FileNotFoundError, match="found no data_batch_3 in "):
        data.load("cifar10", ten)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("taken_over",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        pickle.dumps({}),
        pickle.dumps({b"data": [1], b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, protocol=4),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, protocol=4),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [1.5]}, protocol=4),
        pickle.dumps(Malicious()),
    ],
)
def test_a_foreign_file_is_named_and_runs_nothing(
    ten: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ten)
    next(ten.rglob("test_batch")).write_bytes(content)
    with pytest.raises(ValueError, match="test_batch is no batch of CIFAR"):
        data.load("cifar10", ten)
    assert not (ten / "taken_over").exists()
