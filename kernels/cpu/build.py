"""Compiling the CPU kernels on first use, and keeping the library in a cache private to the user.

The library is keyed by everything that shapes it: sources, compiler, flags, torch and processor.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch

CACHE = "DYNADIAG_CACHE"
_SOURCES = Path(__file__).parent
_TORCH = Path(torch.__file__).parent


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


def source_hash() -> str:
    """Return 12 hex digits that change with any of the sources."""
    digest = hashlib.sha256()
    for path in sorted([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def compiler() -> str:
    """Return the path of the C++ compiler: $CXX, g++, clang++ or c++.

    Raises:
        BuildError: there is none.
    """
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise BuildError(
        f"no C++ compiler found (tried {', '.join(names)}); install one, such as g++, or set CXX"
    )


def flags() -> list[str]:
    """Return the compiler's arguments but for the output."""
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    abi = int(torch.compiled_with_cxx11_abi())
    return [
        *("-O3", native, "-std=c++20", "-fopenmp", "-fPIC", "-shared", "-w"),
        f"-D_GLIBCXX_USE_CXX11_ABI={abi}",
        *os.environ.get("DYNADIAG_CXXFLAGS", "").split(),
        f"-I{_TORCH / 'include'}",
        str(_SOURCES / "operators.cpp"),
        *(f"-L{_TORCH / 'lib'}", "-ltorch_cpu", "-lc10"),
    ]


def _processor() -> str:
    """Return what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _key(path: str, arguments: list[str]) -> str:
    version = subprocess.run(
        [path, "--version"], capture_output=True, text=True, check=False
    ).stdout
    parts = [source_hash(), path, version, *arguments, torch.__version__, _processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def build() -> Path:
    """Return the compiled library, compiling it if the cache lacks it (about half a minute).

    Processes that ask at once wait for the first; a library appears under its name only whole.

    Raises:
        BuildError: no compiler, no private cache, or the compiler failed.
    """
    path, arguments = compiler(), flags()
    folder = cache_folder()
    library = folder / f"cpu-{_key(path, arguments)}.so"
    if library.exists():
        return library
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _compile([path, *arguments], library)
    return library


def _compile(command: list[str], library: Path) -> None:
    handle, partial = tempfile.mkstemp(dir=library.parent, suffix=".partial")
    os.close(handle)
    try:
        done = subprocess.run(
            [*command, "-o", partial], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            first = next(
                (line for line in done.stderr.splitlines() if "error" in line), done.stderr
            )
            raise BuildError(f"{command[0]} could not compile the CPU kernels: {first.strip()}")
        os.replace(partial, library)
    except OSError as error:
        raise BuildError(f"cannot write {library}: {error.strerror}") from error
    finally:
        Path(partial).unlink(missing_ok=True)


@functools.cache
def load() -> str | None:
    """Compile and load the operators once; return None, or why that cannot be done.

    A failure warns once: the reference backend then serves, correct but slower.
    """
    try:
        torch.ops.load_library(str(build()))
    except (BuildError, OSError) as error:
        warnings.warn(
            f"the CPU kernels are not available: {error}. "
            "Falling back to the reference backend, which is correct but slow.",
            stacklevel=2,
        )
        return str(error)
    return None
