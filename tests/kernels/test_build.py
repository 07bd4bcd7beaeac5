"""Compiling and caching, mostly with a script in the place of the compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from dynadiag.kernels.cache import BuildError
from dynadiag.kernels.cpu import build

FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo "fake {version}"; exit; fi
echo "$@" >> "{log}"
sleep {seconds}
for out; do :; done
echo library > "$out"
"""

USE = """
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import torch, dynadiag
    torch.manual_seed(0)
    layer = dynadiag.nn.DiagonalLinear(40, 30, sparsity=0.5)
    x = torch.randn(20, 40, requires_grad=True)
    for _ in range(2):
        y = layer(x)
        y.sum().backward()
    with torch.no_grad():
        layer(x)
    reason = dynadiag.backends()["cpu"]
    error = (y - torch.nn.functional.linear(x, layer.weight, layer.bias)).abs().max().item()
print(json.dumps([[str(w.message) for w in caught], reason, error]))
"""

BUILD = """
from dynadiag.kernels.cpu import build
print(build.build())
"""


def write_compiler(folder: Path, text: str) -> Path:
    path = folder / "compiler"
    path.write_text(text)
    path.chmod(0o755)
    return path


def python(script: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", script],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DYNADIAG_CACHE", str(folder))
    monkeypatch.delenv("DYNADIAG_CXXFLAGS", raising=False)
    return folder


@pytest.fixture
def log(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a compiler that always succeeds was called with, a line a call."""
    path = tmp_path / "log"
    text = FAKE.format(version=1, log=path, seconds=0)
    monkeypatch.setenv("CXX", str(write_compiler(tmp_path, text)))
    return path


def calls(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_cache_others_can_write_to_is_refused(cache: Path, log: Path, mode: int) -> None:
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(BuildError, match=r"written by others.*chmod 700.*DYNADIAG_CACHE"):
        build.build()
    assert list(cache.iterdir()) == []
    assert calls(log) == 0


def test_a_library_is_compiled_once(cache: Path, log: Path) -> None:
    library = build.build()
    assert library.read_text() == "library\n"
    assert library.parent == cache
    assert build.build() == library
    assert calls(log) == 1
    assert not list(cache.glob("*.partial"))


def test_another_key_for_other_flags_compilers_and_sources(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = [build.build()]
    monkeypatch.setenv("DYNADIAG_CXXFLAGS", "-DDYNADIAG_LANES=4")
    libraries.append(build.build())
    write_compiler(tmp_path, FAKE.format(version=2, log=log, seconds=0))
    libraries.append(build.build())
    monkeypatch.setattr(build, "source_hash", lambda: "0123456789ab")
    libraries.append(build.build())
    monkeypatch.setattr(build, "_processor", lambda: "another processor")
    libraries.append(build.build())
    assert len(set(libraries)) == calls(log) == 5


def test_the_source_hash_follows_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_SOURCES", tmp_path)
    (tmp_path / "a.cpp").write_text("1")
    (tmp_path / "b.h").write_text("2")
    hashes = [build.source_hash()]
    (tmp_path / "b.h").write_text("3")
    hashes.append(build.source_hash())
    (tmp_path / "b.h").rename(tmp_path / "c.h")
    hashes.append(build.source_hash())
    assert len(set(hashes)) == 3
    (tmp_path / "notes.txt").touch()
    assert build.source_hash() == hashes[-1]


def test_a_failing_compiler_is_named_and_leaves_nothing(
    cache: Path, log: Path, tmp_path: Path
) -> None:
    failing = (
        '#!/bin/sh\n[ "$1" = --version ] && exit\necho "x.h:3: error: no such thing" >&2\nexit 1\n'
    )
    compiler = write_compiler(tmp_path, failing)
    with pytest.raises(BuildError, match=f"{compiler} could not compile.*no such thing"):
        build.build()
    assert not [path for path in cache.iterdir() if path.suffix in (".so", ".partial")]


def test_a_compiler_killed_without_a_word_is_an_error(log: Path, tmp_path: Path) -> None:
    write_compiler(tmp_path, '#!/bin/sh\n[ "$1" = --version ] && exit\nkill -9 $$\n')
    with pytest.raises(BuildError, match="could not compile"):
        build.build()


def test_no_compiler_names_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent")
    with pytest.raises(BuildError, match=r"tried /nonexistent.*install one.*CXX"):
        build.compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"tried g\+\+, clang\+\+, c\+\+"):
        build.compiler()


def test_without_a_compiler_one_warning_and_right_results(cache: Path) -> None:
    runs = [
        python(USE, CXX="/nonexistent", PATH=""),
        python(USE, CXX="", PATH=""),
    ]
    for run in runs:
        printed, complaints = run.communicate()
        assert run.returncode == 0, complaints
        warned, reason, error = json.loads(printed)
        assert len(warned) == 1
        assert "no C++ compiler found" in warned[0]
        assert "install one" in warned[0]
        assert "reference" in warned[0]
        assert "no C++ compiler" in reason
        assert error < 1e-5
    assert not list(cache.glob("*")) if cache.exists() else True


def test_a_library_that_cannot_be_loaded_falls_back(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.load.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"not available.*Falling back") as caught:
            reason = build.load()
        assert reason is not None
        with warnings.catch_warnings(action="error"):
            assert build.load() == reason
        assert len(caught) == 1
    finally:
        build.load.cache_clear()


def test_two_processes_at_once_compile_once(cache: Path, log: Path, tmp_path: Path) -> None:
    write_compiler(tmp_path, FAKE.format(version=1, log=log, seconds=2))
    runs = [python(BUILD) for _ in range(2)]
    results = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], results
    paths = {printed.strip() for printed, _ in results}
    assert len(paths) == 1
    assert Path(paths.pop()).read_text() == "library\n"
    assert calls(log) == 1
    assert not list(cache.glob("*.partial"))


@pytest.mark.slow
def test_two_processes_build_the_real_library_at_once(cache: Path) -> None:
    runs = [python(USE) for _ in range(2)]
    for run in runs:
        printed, complaints = run.communicate()
        assert run.returncode == 0, complaints
        warned, reason, error = json.loads(printed)
        if reason is not None and "no C++ compiler" in reason:
            pytest.skip(reason)
        assert (warned, reason) == ([], None)
        assert error < 1e-5
    assert len(list(cache.glob("cpu-*.so"))) == 1
    assert not list(cache.glob("*.partial"))
