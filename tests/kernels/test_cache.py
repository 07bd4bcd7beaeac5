from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynadiag.kernels import cache as caching


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DYNADIAG_CACHE", str(folder))
    return folder


def test_the_cache_is_private(cache: Path) -> None:
    previous = os.umask(0)
    try:
        assert caching.cache_folder() == cache
    finally:
        os.umask(previous)
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_cache_others_can_write_to_is_refused(cache: Path, mode: int) -> None:
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(caching.BuildError, match=r"written by others.*chmod 700.*DYNADIAG_CACHE"):
        caching.cache_folder()
    assert list(cache.iterdir()) == []


def test_a_cache_of_somebody_else_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(mode=0o700)
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(caching.BuildError, match="written by others"):
        caching.cache_folder()


def test_a_cache_that_cannot_be_made_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DYNADIAG_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(caching.BuildError, match=r"cannot make .*cache.*set DYNADIAG_CACHE"):
        caching.cache_folder()


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYNADIAG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert caching.cache_folder() == tmp_path / "xdg" / "dynadiag"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert caching.cache_folder() == tmp_path / "home" / ".cache" / "dynadiag"


def test_a_hash_follows_contents_and_names(tmp_path: Path) -> None:
    one, two = tmp_path / "a.cu", tmp_path / "b.cu"
    one.write_text("1")
    two.write_text("2")
    hashes = [caching.hash_files([one, two])]
    assert caching.hash_files([two, one]) == hashes[0]
    two.write_text("3")
    hashes.append(caching.hash_files([one, two]))
    hashes.append(caching.hash_files([one, two.rename(tmp_path / "c.cu")]))
    assert len(set(hashes)) == 3


def test_parts_of_a_key_do_not_run_together() -> None:
    assert caching.hash_parts("a", "bc") != caching.hash_parts("ab", "c")


def test_a_file_is_made_once(cache: Path) -> None:
    made: list[Path] = []

    def make(partial: Path) -> None:
        made.append(partial)
        partial.write_text("code")

    path = caching.cache_folder() / "kernel"
    assert caching.make_once(path, make) == caching.make_once(path, make) == path
    assert path.read_text() == "code"
    assert len(made) == 1
    assert {found.name for found in cache.iterdir()} == {"kernel", "lock"}


def test_a_failure_leaves_nothing(cache: Path) -> None:
    def make(partial: Path) -> None:
        partial.write_text("half")
        raise caching.BuildError("the compiler failed")

    path = caching.cache_folder() / "kernel"
    with pytest.raises(caching.BuildError, match="the compiler failed"):
        caching.make_once(path, make)
    assert [found.name for found in cache.iterdir()] == ["lock"]


def test_a_file_that_cannot_be_written_is_named(cache: Path) -> None:
    with pytest.raises(caching.BuildError, match=r"cannot write .*missing/kernel: No such file"):
        caching.make_once(cache / "missing" / "kernel", lambda partial: None)


def test_text_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.json"
    caching.write_text(path, "old")
    caching.write_text(path, "new")

    def fails(*_: object) -> None:
        raise OSError("interrupted")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="interrupted"):
        caching.write_text(path, "newer")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
