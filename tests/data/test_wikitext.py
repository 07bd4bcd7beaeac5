from __future__ import annotations

from pathlib import Path

import pytest

from dynadiag import data


@pytest.fixture(params=["raw", "tokens"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for part in ("train", "valid", "test"):
        content = f" = {part} = \n naïve words\n" * 4
        (tmp_path / f"wiki.{part}.{request.param}").write_text(content, encoding="utf-8")
    return tmp_path


def test_parts_are_read_as_bytes(root: Path) -> None:
    corpus = data.load("wikitext103", root, context=10)
    x, _ = corpus.validation.take(corpus.validation.indices(0, seed=0, size=1) * 0)
    assert bytes(x[0].tolist()) == b" = valid ="
    assert corpus.classes == 256


def test_parts_are_read_by_a_tokenizer(root: Path) -> None:
    corpus = data.load(
        "wikitext103", root, context=3, tokenizer=lambda line: [300 + len(line)], vocabulary=1000
    )
    x, y = next(corpus.train.batches(1))
    assert x.tolist() == [[312, 313, 312]]
    assert y.tolist() == [[313, 312, 313]]
    assert corpus.classes == 1000


def test_the_tokenizer_must_fit_the_vocabulary(root: Path) -> None:
    with pytest.raises(ValueError, match="gave 313, but the vocabulary is 256"):
        data.load("wikitext103", root, tokenizer=lambda line: [300 + len(line)])


def test_a_missing_part_is_named(root: Path) -> None:
    next(root.glob("wiki.valid.*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"no wiki\.valid\.raw or wiki\.valid\.tokens"):
        data.load("wikitext103", root)
