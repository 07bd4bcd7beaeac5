from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
import torch

from dynadiag import data
from dynadiag.data.text import Tokens


def text(split: data.Split) -> bytes:
    return b"".join(bytes(x.flatten().tolist()) for x, _ in split.batches(1000))


def test_every_token_but_the_first_is_predicted_once() -> None:
    split = Tokens(torch.arange(11, dtype=torch.uint8), 5)
    inputs, targets = next(split.batches(9))
    assert inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert targets.flatten().tolist() == list(range(1, 11))
    assert targets.dtype == torch.int64


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_short_a_text_has_no_window(count: int) -> None:
    assert len(Tokens(torch.zeros(count, dtype=torch.uint8), 5)) == 0


def test_a_context_of_nothing() -> None:
    with pytest.raises(ValueError, match="context is 0 tokens"):
        Tokens(torch.zeros(9, dtype=torch.uint8), 0)


def test_the_standard_library_is_a_corpus() -> None:
    corpus = data.load("stdlib-text", context=32)
    assert corpus.classes == 256
    assert len(corpus.train) > 100_000
    assert 1000 < len(corpus.validation) < 20_000
    assert 1000 < len(corpus.test) < 20_000
    assert "standard library of Python 3." in corpus.source


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("pickle.py", "json/decoder.py", "test/test_pickle.py", "_sysconfigdata_x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n" * 10)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    return tmp_path


def test_only_the_source_of_the_library_belongs(library: Path) -> None:
    corpus = data.load("stdlib-text", context=1)
    everything = b"".join(text(split) for split in (corpus.train, corpus.validation, corpus.test))
    assert b"# pickle.py" in everything
    assert b"# json/decoder.py" in everything
    assert b"test_pickle" not in everything
    assert b"_sysconfigdata" not in everything


def test_a_file_stays_in_its_split(library: Path) -> None:
    for i in range(200):
        (library / f"m{i}.py").write_text(f"<{i}>")
    held = text(data.load("stdlib-text", context=1).validation)
    assert held.count(b"<") > 1
    for i in range(200, 300):
        (library / f"m{i}.py").write_text(f"<{i}>")
    more = text(data.load("stdlib-text", context=1).validation)
    assert set(held.split(b"<")[1:-1]) <= set(more.split(b"<"))
