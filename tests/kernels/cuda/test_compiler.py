"""Compiling for real, which needs NVRTC but no GPU; and what is kept, and what is said if not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dynadiag.kernels.cache import BuildError, hash_parts
from dynadiag.kernels.cuda import compiler, cost, resource_table, variants
from dynadiag.kernels.cuda.compiler import Program
from dynadiag.kernels.cuda.resource_table import ARCHS, COMPILED, Found
from dynadiag.kernels.cuda.resources import Resources, read_log
from dynadiag.kernels.cuda.variants import Variant

REDUCE = Variant("reduce", torch.float32)
SPILLED = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1fv' for 'sm_90'
ptxas info    : Function properties for _Z1fv
ptxas         .     24 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 24 bytes cumulative stack size, 4096 bytes smem
ptxas info    : Compile time = 7.251 ms
ptxas info    : Compiling entry function '_Z1gv' for 'sm_90'
ptxas info    : Function properties for _Z1gv
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""
LOAD = """
import torch
from dynadiag.kernels.cuda import compiler
from dynadiag.kernels.cuda.variants import Variant
binary = compiler.load(Variant("reduce", torch.float32), "sm_80")
print(binary.path, binary.name, binary.resources.registers, len(binary.path.read_bytes()))
"""


@pytest.fixture
def nvrtc() -> None:
    try:
        compiler.import_nvrtc()
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def found(pytestconfig: pytest.Config) -> Found:
    """What every variant takes, on every machine compiled for: about a minute, unless unchanged."""
    try:
        version = compiler.nvrtc_version()
    except BuildError as error:
        pytest.skip(str(error))
    assert pytestconfig.cache is not None
    kinds = [(arch, variant) for arch in ARCHS for variant in COMPILED]
    state = [compiler.source_hash(), version, *compiler.FLAGS, *map(repr, kinds)]
    key = f"cuda_resources/{hash_parts(*state)}"
    kept = pytestconfig.cache.get(key, None)
    if kept is None:
        collected = resource_table.collect()
        pytestconfig.cache.set(key, [astuple(collected[kind]) for kind in kinds])
        return collected
    return {kind: Resources(*taken) for kind, taken in zip(kinds, kept, strict=True)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DYNADIAG_CACHE", str(folder))
    return folder


@pytest.fixture
def compiled(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, tuple[str, ...], str]]:
    """What was compiled, by a compiler that always succeeds."""
    calls: list[tuple[str, tuple[str, ...], str]] = []

    def compile_source(source: str, expressions: list[str], arch: str) -> Program:
        calls.append((source, tuple(expressions), arch))
        resources = Resources(32, 0, 0, 0, 0)
        return Program(
            b"code", dict.fromkeys(expressions, "_Z1f"), dict.fromkeys(expressions, resources)
        )

    monkeypatch.setattr(compiler, "compile_source", compile_source)
    monkeypatch.setattr(compiler, "_version", lambda: "13.5")
    return calls


def test_every_variant_compiles_without_spills_for_every_machine(found: Found) -> None:
    assert set(found) == {(arch, variant) for arch in ARCHS for variant in COMPILED}
    spilled = {
        f"{arch} {variant.expression}": taken
        for (arch, variant), taken in found.items()
        if taken.stack or taken.spill_stores or taken.spill_loads
    }
    assert spilled == {}


def test_registers_allow_the_blocks_that_plans_ask_for(found: Found) -> None:
    for (_, variant), taken in found.items():
        if variant.kernel in ("multiply", "grad_values"):
            assert taken.registers * cost.max_threads(variant) <= cost.REGISTERS
        assert taken.shared_bytes == 0


def test_the_committed_table_is_current(found: Found) -> None:
    table = resource_table.committed()
    if f"NVRTC {compiler.nvrtc_version()}:" not in table:
        pytest.skip(f"the table was made with another NVRTC than {compiler.nvrtc_version()}")
    assert table == resource_table.table(found), "run `python -m dynadiag.kernels.cuda --write`"


def test_the_table_has_a_row_for_each_kernel_and_dtype(nvrtc: None) -> None:
    taken = Resources(40, 0, 0, 0, 0)
    found = {("sm_80", variant): taken for variant in COMPILED}
    found["sm_80", variants.ALL[0]] = replace(taken, registers=64)
    rows = resource_table.table(found).splitlines()[4:]
    assert rows[0] == "| `multiply` | float32 | 12 | 40-64 |"
    assert rows[1] == "| `grad_values` | float32 | 4 | 40 |"
    assert len(rows) == len({(variant.kernel, variant.dtype) for variant in COMPILED})


def test_refreshing_replaces_what_stands_between_the_markers(
    nvrtc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    begin, end = resource_table.BEGIN, resource_table.END
    readme.write_text(f"# Kernels\n\n{begin}\nold\n{end}\n\nMore.\n")
    monkeypatch.setattr(resource_table, "README", readme)
    found = {("sm_80", variant): Resources(40, 0, 0, 0, 0) for variant in COMPILED}
    resource_table.refresh(found)
    assert resource_table.committed() == resource_table.table(found)
    assert readme.read_text().startswith(f"# Kernels\n\n{begin}\n")
    assert readme.read_text().endswith(f"\n{end}\n\nMore.\n")


def test_the_log_is_read_kernel_by_kernel() -> None:
    assert read_log(SPILLED) == {
        "_Z1fv": Resources(64, 4096, spill_stores=8, spill_loads=12, stack=24),
        "_Z1gv": Resources(8, 0, 0, 0, 0),
    }
    with pytest.raises(ValueError, match="lacks"):
        read_log("Compiling entry function 'f' for 'sm_90'\nnothing else")


def test_a_kernel_is_compiled_once_for_a_machine(
    cache: Path, compiled: list[tuple[str, tuple[str, ...], str]]
) -> None:
    binary = compiler.load(REDUCE, "sm_80")
    assert compiler.load(REDUCE, "sm_80") == binary
    assert binary.path.read_bytes() == b"code"
    assert (binary.name, binary.resources.registers) == ("_Z1f", 32)
    assert compiled == [("reduce.cu", (REDUCE.expression,), "sm_80")]
    assert cache.stat().st_mode & 0o777 == 0o700
    assert not list(cache.glob("*.partial"))


def test_another_kernel_machine_source_or_compiler_is_compiled(
    compiled: list[tuple[str, tuple[str, ...], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = [compiler.load(REDUCE, "sm_80"), compiler.load(REDUCE, "sm_90")]
    binaries.append(compiler.load(Variant("reduce", torch.float16), "sm_80"))
    monkeypatch.setattr(compiler, "_source_hash", lambda: "0123456789ab")
    binaries.append(compiler.load(REDUCE, "sm_80"))
    monkeypatch.setattr(compiler, "_version", lambda: "14.0")
    binaries.append(compiler.load(REDUCE, "sm_80"))
    assert len({binary.path for binary in binaries}) == len(compiled) == 5


def test_code_never_stands_there_without_its_facts(
    cache: Path, compiled: list[tuple[str, tuple[str, ...], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiler, "write_text", fails)
    with pytest.raises(BuildError, match=r"cannot write .*No space left"):
        compiler.load(REDUCE, "sm_80")
    assert not list(cache.glob("*.cubin"))


def test_a_cache_others_can_write_to_is_refused(
    cache: Path, compiled: list[tuple[str, tuple[str, ...], str]]
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(BuildError, match="written by others"):
        compiler.load(REDUCE, "sm_80")
    assert compiled == []


def test_two_processes_at_once_share_one_binary(nvrtc: None, cache: Path) -> None:
    command = [sys.executable, "-P", "-c", LOAD]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    assert len(printed) == 1
    assert "reduce" in printed.pop()
    assert sorted(path.suffix for path in cache.iterdir()) == ["", ".cubin", ".json"]


def test_a_source_that_does_not_compile_shows_the_log(
    nvrtc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.cu").write_text('#include "part.cuh"\n')
    (tmp_path / "part.cuh").write_text("__global__ void f() { undeclared = 1; }\n")
    monkeypatch.setattr(compiler, "_SOURCES", tmp_path)
    with pytest.raises(BuildError, match=r'could not compile bad.cu for sm_80(.|\n)*"undeclared"'):
        compiler.compile_source("bad.cu", ["f"], "sm_80")


def test_the_source_hash_follows_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "_SOURCES", tmp_path)
    (tmp_path / "a.cu").write_text("1")
    hashes = [compiler.source_hash()]
    (tmp_path / "b.cuh").write_text("2")
    hashes.append(compiler.source_hash())
    (tmp_path / "notes.txt").touch()
    assert hashes[0] != hashes[1] == compiler.source_hash()


@pytest.mark.parametrize("name", ["cupy", "cupy_backends.cuda.libs.nvrtc"])
def test_without_cupy_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    needed = {"cupy": compiler.import_cupy}.get(name, compiler.import_nvrtc)
    with pytest.raises(BuildError, match=r"CuPy is missing.*pip install 'dynadiag\[cuda13\]'"):
        needed()


def test_without_nvrtc_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("libnvrtc.so.13: cannot open shared object file")

    name = "cupy_backends.cuda.libs.nvrtc"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(getVersion=fails))
    with pytest.raises(BuildError, match=r"NVRTC.*dynadiag\[cuda13\].*libnvrtc\.so"):
        compiler.import_nvrtc()


def test_the_library_is_imported_without_cupy() -> None:
    code = "import sys, dynadiag; print([name for name in sys.modules if name.startswith('cupy')])"
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"
