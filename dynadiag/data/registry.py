"""The data sets there are, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cifar import cifar10, cifar100
from .dataset import Dataset
from .digits import digits
from .image_folder import image_folder
from .mnist import mnist
from .text import stdlib_text
from .wikitext import wikitext103

_BUNDLED: dict[str, Callable[..., Dataset]] = {"digits": digits, "stdlib-text": stdlib_text}
_LOCAL: dict[str, Callable[..., Dataset]] = {
    "mnist": mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet": image_folder,
    "wikitext103": wikitext103,
}


def names() -> dict[str, str]:
    """Return what each data set needs, in words, by its name."""
    bundled = dict.fromkeys(_BUNDLED, "needs no files")
    return bundled | dict.fromkeys(_LOCAL, "needs root=, the folder with its files")


def load(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """Return a data set; nothing is downloaded.

    Args:
        name: one of `names()`.
        root: folder with the files of those that are not bundled.
        options: what this data set takes besides, such as `context=` for text.

    Raises:
        ValueError: the name or an option is unknown, or the root is missing.
        FileNotFoundError: a file is missing; the message names it.
        ImportError: a package is missing; the message says how to install it.
    """
    loaders = _BUNDLED | _LOCAL
    if name not in loaders:
        raise ValueError(f"unknown data set '{name}'; known are {', '.join(loaders)}")
    known = [option for option in inspect.signature(loaders[name]).parameters if option != "root"]
    for option in options:
        if option not in known:
            raise ValueError(
                f"data set '{name}' has no option '{option}'; it has {', '.join(known) or 'none'}"
            )
    return loaders[name](root, **options) if name in _LOCAL else loaders[name](**options)
