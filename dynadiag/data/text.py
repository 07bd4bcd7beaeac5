"""Text as tokens, cut into windows; the standard library's own source as a corpus."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Generator, Tensor

from .dataset import Dataset
from .split import Batch, Split

# Other packages; tests, which many distributions leave out; what later versions of Python dropped;
# tables rather than code. What is left is nearly the same corpus from Python 3.11 on.
_EXCLUDED = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "distutils",
    "turtledemo",
    "encodings",
    "pydoc_data",
}
# One file in 32 validates and one tests: 125 and 203 kB of 8.2 MB in Python 3.11.
_SHARES = 32


@final
class Tokens(Split):
    """A sequence of tokens in windows that do not overlap; each token is predicted once.

    Args:
        tokens: (n,) of an integer dtype.
        context: T, the tokens of a window.
    """

    def __init__(self, tokens: Tensor, context: int) -> None:
        if context < 1:
            raise ValueError(f"context is {context} tokens; it must be at least 1")
        self.tokens = tokens
        self.context = context

    def __len__(self) -> int:
        """Return the number of windows."""
        return max(len(self.tokens) - 1, 0) // self.context

    def take(self, indices: Tensor, generator: Generator | None = None) -> Batch:
        """Return windows (B, T) and, as targets, the same windows one token later, int64."""
        starts = indices[:, None] * self.context
        window = self.tokens[starts + torch.arange(self.context + 1)].long()  # (B, T + 1)
        return window[:, :-1], window[:, 1:]


def byte_tokens(data: bytes) -> Tensor:
    """Return the bytes as a (n,) uint8 tensor."""
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def stdlib_text(*, context: int = 64) -> Dataset:
    """Return the source of the running Python's standard library as bytes, split by file.

    Files are assigned by a hash of their path, so a file stays in its split when others come or
    go. Losses compare only between runs of one Python version, which `source` names.

    Args:
        context: tokens of a window.
    """
    root = Path(sysconfig.get_path("stdlib"))
    files = list(_sources(root))
    parts: dict[str, list[bytes]] = {"train": [], "validation": [], "test": []}
    for path in files:
        parts[_share(path.relative_to(root))].append(path.read_bytes())
    tokens = {share: byte_tokens(b"".join(part)) for share, part in parts.items()}
    splits = {share: Tokens(part, context) for share, part in tokens.items()}
    size = sum(map(len, tokens.values())) / 1e6
    version = platform.python_version()
    source = f"standard library of Python {version}: {len(files)} files, {size:.1f} MB"
    return Dataset("stdlib-text", **splits, classes=256, source=source)


def _sources(folder: Path) -> Iterator[Path]:
    """Yield the corpus below a folder, in an order that does not depend on the file system."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in _EXCLUDED:
            yield from _sources(path)
        elif path.suffix == ".py" and not path.name.startswith("_sysconfigdata"):
            yield path


def _share(path: Path) -> str:
    bucket = hashlib.sha256(path.as_posix().encode()).digest()[0] % _SHARES
    return {0: "validation", 1: "test"}.get(bucket, "train")
