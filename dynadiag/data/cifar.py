"""CIFAR-10 and CIFAR-100 from the pickled batches of their Python version."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset
from .files import find
from .images import Images, crop_and_flip, mean_and_std


def cifar10(root: str | Path | None = None) -> Dataset:
    """Return CIFAR-10; see `cifar100`.

    Args:
        root: folder with data_batch_1 to data_batch_5 and test_batch, or the one above it.
    """
    folders = (".", "cifar-10-batches-py")
    files = [find(root, folders, (f"data_batch_{i}",)) for i in range(1, 6)]
    test = find(root, folders, ("test_batch",))
    return _dataset("cifar10", files, test, b"labels", 10)


def cifar100(root: str | Path | None = None) -> Dataset:
    """Return CIFAR-100; a tenth of its training images, 5,000, are held out to validate.

    Images are shifted and mirrored in training batches (`crop_and_flip`).

    Args:
        root: folder with the files train and test, or the one above it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is no batch of CIFAR.
    """
    folders = (".", "cifar-100-python")
    train, test = (find(root, folders, (name,)) for name in ("train", "test"))
    return _dataset("cifar100", [train], test, b"fine_labels", 100)


def _dataset(name: str, files: list[Path], test_file: Path, key: bytes, classes: int) -> Dataset:
    batches = [_read(path, key, classes) for path in files]
    pixels = torch.cat([pixels for pixels, _ in batches])
    labels = torch.cat([labels for _, labels in batches])
    mean, std = mean_and_std(pixels)
    every = Images(pixels, labels, mean=mean, std=std, augment=crop_and_flip)
    train, validation = every.hold_out(len(labels) // 10)
    test = Images(*_read(test_file, key, classes), mean=mean, std=std)
    return Dataset(name, train, validation, test, classes, "CIFAR batches, Python version")


def _read(path: Path, key: bytes, classes: int) -> tuple[Tensor, Tensor]:
    """Return pixels (n, 3, 32, 32) uint8 and labels (n,) of a batch."""
    try:
        with path.open("rb") as file:
            batch = _Unpickler(file, encoding="bytes").load()
        pixels = torch.from_numpy(np.asarray(batch[b"data"], np.uint8)).view(-1, 3, 32, 32)
        labels = torch.tensor(batch[key])
        if labels.is_floating_point() or len(labels) != len(pixels):
            raise ValueError(f"{len(labels)} labels {labels.dtype} for {len(pixels)} images")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"a label is outside the {classes} classes")
        return pixels, labels
    except Exception as error:  # a damaged pickle raises almost anything
        raise ValueError(f"{path} is no batch of CIFAR ({error}); fetch it again") from error


@final
class _Unpickler(pickle.Unpickler):
    """Loads arrays and nothing else: a pickle may otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
