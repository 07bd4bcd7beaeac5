from __future__ import annotations

import sys
from collections import Counter

import pytest
import torch

pytest.importorskip("sklearn")

from dynadiag import data


def test_splits_are_stratified_and_fixed() -> None:
    digits, again = data.load("digits"), data.load("digits")
    assert [len(s) for s in (digits.train, digits.validation, digits.test)] == [1079, 359, 359]
    for split, same in ((digits.train, again.train), (digits.test, again.test)):
        (x, y), (x2, y2) = next(split.batches(2000)), next(same.batches(2000))
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
        shares = y.bincount(minlength=digits.classes) / len(y)
        assert shares.min() > 0.09
        assert shares.max() < 0.11


def images(split: data.Split) -> list[bytes]:
    """The pixels of a split in order, 0 to 16 as they were before they were standardised."""
    x, _ = split.take(torch.arange(len(split)))
    pixels = (x - x.min()) * (16 / (x.max() - x.min()))
    return [each.numpy().tobytes() for each in pixels.round().byte()]


def test_folds_test_every_image_once_but_those_that_validate() -> None:
    folds = [data.load("digits", fold=fold) for fold in range(4)]
    tested = Counter(image for fold in folds for image in images(fold.test))
    kept = Counter(images(folds[0].train)) + Counter(images(folds[0].test))
    assert tested == kept
    assert Counter(images(data.load("digits").test)) == Counter(images(folds[0].test))
    for fold in folds:
        assert images(fold.validation) == images(folds[0].validation)
        assert Counter(images(fold.train)) + Counter(images(fold.test)) == kept
        assert 350 < len(fold.test) < 370


@pytest.mark.parametrize("fold", [-1, 4, 1.5])
def test_a_fold_there_is_not(fold: float) -> None:
    with pytest.raises(ValueError, match=f"fold is {fold}, but digits have the folds 0 to 3"):
        data.load("digits", fold=fold)


def test_images_are_standardised_by_the_training_split() -> None:
    x, y = next(data.load("digits").train.batches(2000))
    assert (x.shape, x.dtype, y.dtype) == ((1079, 1, 8, 8), torch.float32, torch.int64)
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std().item() == pytest.approx(1, abs=1e-3)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"scikit-learn: pip install 'dynadiag\[train\]'"):
        data.load("digits")
