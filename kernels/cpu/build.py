"""Compiling the CPU kernels on first use, and keeping the library in the user's cache.

The library is keyed by everything that shapes it: sources, compiler, flags, torch and processor.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import warnings
from pathlib import Path

import torch

from ..cache import BuildError, cache_folder, hash_files, hash_parts, make_once

_SOURCES = Path(__file__).parent
_TORCH = Path(torch.__file__).parent


def source_hash() -> str:
    """Return 12 hex digits that change with any of the sources."""
    return hash_files([*_SOURCES.glob("*.cpp"), *_SOURCES.glob("*.h")])


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
    return hash_parts(source_hash(), path, version, *arguments, torch.__version__, _processor())


def build() -> Path:
    """Return the compiled library, compiling it if the cache lacks it (about half a minute).

    Processes that ask at once wait for the first; a library appears under its name only whole.

    Raises:
        BuildError: no compiler, no private cache, or the compiler failed.
    """
    path, arguments = compiler(), flags()
    library = cache_folder() / f"cpu-{_key(path, arguments)}.so"
    return make_once(library, lambda partial: _compile([path, *arguments], partial))


def _compile(command: list[str], library: Path) -> None:
    done = subprocess.run(
        [*command, "-o", str(library)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
        raise BuildError(f"{command[0]} could not compile the CPU kernels: {first.strip()}")


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
