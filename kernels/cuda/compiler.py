"""Compiling the CUDA sources with NVRTC, and keeping the machine code in the user's cache.

NVRTC is reached through CuPy's binding and needs no header of CUDA: the sources include only each
other. Nothing of CuPy is imported before it is used.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from ..cache import BuildError, cache_folder, hash_files, hash_parts, make_once, write_text
from .resources import Resources, read_log
from .variants import Variant

EXTRA = "pip install 'dynadiag[cuda13]' (or cuda12, as the driver)"
FLAGS = ("-std=c++17", "--ptxas-options=-v")
_SOURCES = Path(__file__).parent


@dataclass(frozen=True)
class Program:
    """One compiled source.

    Attributes:
        code: the machine code (a cubin).
        names: by C++ expression, the name of the kernel in the code.
        resources: by C++ expression, what the kernel takes.
    """

    code: bytes
    names: dict[str, str]
    resources: dict[str, Resources]


@dataclass(frozen=True)
class Binary:
    """One kernel on disk: the cubin, the kernel's name in it, and what it takes."""

    path: Path
    name: str
    resources: Resources


def import_cupy() -> ModuleType:
    """Return CuPy.

    Raises:
        BuildError: it is missing or does not load; the message names the extra to install.
    """
    return _import("cupy")


def import_nvrtc() -> ModuleType:
    """Return CuPy's binding of NVRTC, the library behind it loaded.

    Raises:
        BuildError: CuPy or NVRTC is missing; the message names the extra to install.
    """
    nvrtc = _import("cupy_backends.cuda.libs.nvrtc")
    try:
        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        raise BuildError(f"NVRTC, the CUDA compiler, does not load; {EXTRA}: {error}") from error
    return nvrtc


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BuildError(f"CuPy is missing or does not load; {EXTRA}: {error}") from error


def nvrtc_version() -> str:
    """Return the version of NVRTC, such as `13.5`."""
    return ".".join(map(str, import_nvrtc().getVersion()))


def source_hash() -> str:
    """Return 12 hex digits that change with any of the CUDA sources."""
    return hash_files([*_SOURCES.glob("*.cu"), *_SOURCES.glob("*.cuh")])


def compile_source(source: str, expressions: Sequence[str], arch: str) -> Program:
    """Compile instances of the kernels in one file of this folder.

    Args:
        source: the file's name, such as `multiply.cu`.
        expressions: the instances in C++.
        arch: the machine to compile for, such as `sm_90`.

    Raises:
        BuildError: NVRTC is missing, or the source does not compile.
    """
    nvrtc = import_nvrtc()
    headers = sorted(_SOURCES.glob("*.cuh"))
    program = nvrtc.createProgram(
        (_SOURCES / source).read_text(),
        source,
        [path.read_bytes() for path in headers],
        [path.name.encode() for path in headers],
    )
    try:
        for expression in expressions:
            nvrtc.addNameExpression(program, expression)
        try:
            nvrtc.compileProgram(program, (f"-arch={arch}", *FLAGS))
        except nvrtc.NVRTCError as error:
            log = nvrtc.getProgramLog(program) or str(error)
            raise BuildError(f"NVRTC could not compile {source} for {arch}:\n{log}") from error
        names = {text: nvrtc.getLoweredName(program, text) for text in expressions}
        found = read_log(nvrtc.getProgramLog(program))
        resources = {text: found[name] for text, name in names.items()}
        return Program(nvrtc.getCUBIN(program), names, resources)
    finally:
        nvrtc.destroyProgram(program)


def load(variant: Variant, arch: str) -> Binary:
    """Return one kernel's machine code, compiled if the cache lacks it (a few seconds).

    Raises:
        BuildError: it cannot be compiled, or there is no private cache.
    """
    key = hash_parts(_source_hash(), variant.expression, arch, _version(), *FLAGS)
    path = cache_folder() / f"cuda-{key}.cubin"
    facts = path.with_suffix(".json")

    def make(partial: Path) -> None:
        program = compile_source(variant.source, [variant.expression], arch)
        name = program.names[variant.expression]
        resources = asdict(program.resources[variant.expression])
        # The facts come first: where the code is, they are.
        write_text(facts, json.dumps({"name": name, "resources": resources}))
        partial.write_bytes(program.code)

    make_once(path, make)
    read = json.loads(facts.read_text())
    return Binary(path, read["name"], Resources(**read["resources"]))


# Sources and library stay what they are while a process lives: each kernel would hash them anew.
_source_hash = functools.cache(source_hash)
_version = functools.cache(nvrtc_version)
