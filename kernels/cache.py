"""The cache of compiled kernels and measured tables: private to the user, files only whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

CACHE = "DYNADIAG_CACHE"


class BuildError(RuntimeError):
    """The kernels cannot be compiled here; the message says why and what to do."""


def cache_folder() -> Path:
    """Return the folder of compiled kernels: $DYNADIAG_CACHE, or dynadiag in the user's cache.

    Raises:
        BuildError: it cannot be made, or others could write to it.
    """
    folder = _wanted_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(f"cannot make {folder}: {error.strerror}; set {CACHE}") from error
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(
            f"{folder} can be written by others, who could plant code there; "
            f"make it yours alone (chmod 700) or set {CACHE}"
        )
    return folder


def _wanted_folder() -> Path:
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "dynadiag"
    try:
        return Path.home() / ".cache" / "dynadiag"
    except RuntimeError as error:
        raise BuildError(f"this user has no home folder for a cache; set {CACHE}") from error


def hash_files(paths: Iterable[Path]) -> str:
    """Return 12 hex digits that change with any of these files and their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def hash_parts(*parts: str) -> str:
    """Return 24 hex digits that change with any of these texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def make_once(path: Path, make: Callable[[Path], None]) -> Path:
    """Return `path`, made first if it is not there yet.

    Processes that ask at once wait for the first; the file appears under its name only whole.

    Args:
        path: a file in the cache.
        make: writes the file under the name it is given.

    Raises:
        BuildError: the file cannot be written.
    """
    if not path.exists():
        try:
            with open(path.parent / "lock", "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    write_whole(path, make)
        except OSError as error:
            raise BuildError(f"cannot write {path}: {error.strerror}") from error
    return path


def write_whole(path: Path, make: Callable[[Path], None]) -> None:
    """Replace `path` by what `make` writes under the name it is given, or leave it as it was."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        make(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by this text, or leave it as it was."""
    write_whole(path, lambda partial: _write(partial, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text)
