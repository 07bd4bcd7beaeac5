"""MNIST from its four idx files, compressed or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset
from .files import find, read
from .images import Images, mean_and_std

# Beside them, where torchvision puts them.
_FOLDERS = (".", "MNIST/raw")
_UBYTE = 8


def mnist(root: str | Path | None = None) -> Dataset:
    """Return MNIST; a twelfth of its training images, 5,000, are held out to validate.

    Args:
        root: folder with train-images-idx3-ubyte and its three companions, or torchvision's root.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.
    """
    pixels, labels = _images(root, "train")
    mean, std = mean_and_std(pixels)
    train, validation = Images(pixels, labels, mean=mean, std=std).hold_out(len(labels) // 12)
    test = Images(*_images(root, "t10k"), mean=mean, std=std)
    return Dataset("mnist", train, validation, test, classes=10, source="MNIST idx files")


def _images(root: str | Path | None, part: str) -> tuple[Tensor, Tensor]:
    pixels = read_idx(_find(root, f"{part}-images-idx3-ubyte"))
    labels = read_idx(_find(root, f"{part}-labels-idx1-ubyte"))
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1] or labels.max() > 9:
        raise ValueError(
            f"the {part} files hold images {tuple(pixels.shape)} and labels {tuple(labels.shape)}, "
            "which must be one digit an image; fetch both again"
        )
    return pixels.unsqueeze(1), labels.long()


def _find(root: str | Path | None, name: str) -> Path:
    return find(root, _FOLDERS, (name, f"{name}.gz"))


def read_idx(path: Path) -> Tensor:
    """Return the uint8 array of an idx file.

    The format: two zero bytes, the type, the number of dimensions, each of them as a big-endian
    32-bit number, the data.

    Raises:
        ValueError: the file is of another format, another type, or cut off.
    """
    data = read(path)
    if len(data) < 4 or data[:3] != bytes([0, 0, _UBYTE]):
        raise ValueError(f"{path} starts with {data[:4]!r}: no idx file of bytes; fetch it again")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"{path} is cut off in its header; fetch it again")
    shape = np.frombuffer(data[4:start], ">u4").tolist()
    held = len(data) - start
    if held != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} holds {held} bytes for shape {shape}; fetch it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())
