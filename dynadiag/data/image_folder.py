"""Images in one folder a class, such as ImageNet, decoded when they are taken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch import Generator, Tensor

from .dataset import Dataset
from .files import find
from .split import Batch, Split

if TYPE_CHECKING:
    from PIL.Image import Image

_SUFFIXES = {".jpeg", ".jpg", ".png"}
# Those of ImageNet's training images, which everybody uses.
_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@final
class ImageFiles(Split):
    """Image files and their classes; training crops and mirrors at random, else the centre is cut.

    Args:
        paths: the files.
        labels: (n,) int64.
        size: height and width of the images given out, in pixels.
    """

    def __init__(self, paths: list[Path], labels: Tensor, size: int) -> None:
        self.paths = paths
        self.labels = labels
        self.size = size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def take(self, indices: Tensor, generator: Generator | None = None) -> Batch:
        """Return images (B, 3, size, size) float32 and labels, as `Split.take`."""
        images = [self._image(self.paths[index], generator) for index in indices.tolist()]
        return torch.stack(images), self.labels[indices]

    def _image(self, path: Path, generator: Generator | None) -> Tensor:
        from PIL import Image

        with Image.open(path) as file:
            picture = file.convert("RGB")
        if generator is None:
            picture = _centre(picture, self.size)
        else:
            picture = _random_crop(picture, self.size, generator)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        return (pixels / 255 - _MEAN) / _STD


def image_folder(root: str | Path | None = None, *, size: int = 224) -> Dataset:
    """Return the images of `root/train/CLASS` and, to test, of `root/val/CLASS`.

    A hundredth of the training images is held out to validate, cropped as in training only where
    training asks for it.

    Args:
        root: folder with the folders train and val, the same classes in both.
        size: height and width of the images given out, in pixels.

    Raises:
        ImportError: Pillow is not installed.
        FileNotFoundError: a folder is missing.
        ValueError: a class is missing in one folder, or there are too few images.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError("images are decoded by Pillow: pip install 'dynadiag[train]'") from error
    folders = [find(root, (".",), (name,)) for name in ("train", "val")]
    classes = _classes(folders[0])
    if classes != _classes(folders[1]):
        odd = sorted(set(classes) ^ set(_classes(folders[1])))
        raise ValueError(f"{odd[0]} is a class in only one of {folders[0]} and {folders[1]}")
    every, test = (_files(folder, classes, size) for folder in folders)
    train, validation = every.hold_out(math.ceil(len(every) / 100))
    source = f"image folder of {len(classes)} classes"
    return Dataset("imagenet", train, validation, test, len(classes), source)


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _files(folder: Path, classes: list[str], size: int) -> ImageFiles:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = (folder / name).iterdir()
        found = sorted(path for path in files if path.suffix.lower() in _SUFFIXES)
        paths += found
        labels += [label] * len(found)
    return ImageFiles(paths, torch.tensor(labels), size)


def _centre(picture: Image, size: int) -> Image:
    """Scale the short side to 8/7 of the size, then cut out the centre."""
    scale = size * 8 / 7 / min(picture.size)
    half = size / scale / 2
    x, y = picture.width / 2, picture.height / 2
    return _cut(picture, (x - half, y - half, x + half, y + half), size)


def _random_crop(picture: Image, size: int, generator: Generator) -> Image:
    """Cut out 8 to 100 % of the area, 3:4 to 4:3 in shape, and mirror every second picture."""
    from PIL.Image import Transpose

    area, shape, x, y, mirror = torch.rand(5, generator=generator).tolist()
    pixels = picture.width * picture.height * (0.08 + 0.92 * area)
    ratio = (4 / 3) ** (2 * shape - 1)
    width = min(math.sqrt(pixels * ratio), picture.width)
    height = min(math.sqrt(pixels / ratio), picture.height)
    left, top = x * (picture.width - width), y * (picture.height - height)
    cut = _cut(picture, (left, top, left + width, top + height), size)
    return cut.transpose(Transpose.FLIP_LEFT_RIGHT) if mirror < 0.5 else cut


def _cut(picture: Image, box: tuple[float, float, float, float], size: int) -> Image:
    from PIL.Image import Resampling

    return picture.resize((size, size), Resampling.BICUBIC, box=box)
