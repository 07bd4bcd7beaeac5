"""Writing files that are either whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Put `text` at `path` in one step: a reader sees the old file or the new one."""
    with temporary(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; it becomes `path` if all goes well."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def append(path: Path, data: bytes) -> None:
    """Add `data` to the file in one write and sync it; on failure nothing of it stays."""
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes fitted")
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def keep_lines(path: Path, count: int) -> None:
    """Cut the file after its first `count` lines, the last of which gets its line end."""
    with path.open("a+b") as file:
        file.seek(0)
        lines = [file.readline() for _ in range(count)]
        file.truncate(file.tell())
        if lines and not lines[-1].endswith(b"\n"):
            file.write(b"\n")
