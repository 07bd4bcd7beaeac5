from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dynadiag import data

Image = pytest.importorskip("PIL.Image")

COLOURS = {"cat": (255, 0, 0), "dog": (0, 0, 255)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, count in (("train", 5), ("val", 2)):
        for name, colour in COLOURS.items():
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (40, 20 + i), colour)
                picture.paste((0, 255, 0), (0, 0, 20, 40))  # the left half is green
                picture.save(tmp_path / part / name / f"{i}.png")
    return tmp_path


def test_classes_are_folders_in_alphabetical_order(root: Path) -> None:
    images = data.load("imagenet", root, size=16)
    assert images.classes == 2
    assert [len(s) for s in (images.train, images.validation, images.test)] == [9, 1, 4]
    x, y = next(images.test.batches(9))
    assert (x.shape, x.dtype, y.tolist()) == ((4, 3, 16, 16), torch.float32, [0, 0, 1, 1])
    right = x[:, :, :, 12].mean(2)
    assert right.argmax(1).tolist() == [0, 0, 2, 2]
    assert (x[:, 1, :, 3] > 1).all()


def test_training_crops_at_random_but_always_alike(root: Path) -> None:
    train = data.load("imagenet", root, size=16).train
    first, _ = train.batch(0, seed=0, size=9)
    assert torch.equal(first, train.batch(0, seed=0, size=9)[0])
    assert not torch.equal(first, train.take(train.indices(0, seed=0, size=9))[0])
    several = torch.cat([train.batch(step, seed=0, size=9)[0] for step in range(8)])
    green_left = several[:, 1, :, 0].mean(1) > several[:, 1, :, 15].mean(1)
    assert 0 < green_left.sum() < len(several)  # some are mirrored


def test_a_class_must_be_in_both_folders(root: Path) -> None:
    (root / "val" / "emu").mkdir()
    with pytest.raises(ValueError, match="emu is a class in only one of"):
        data.load("imagenet", root)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found no train in "):
        data.load("imagenet", tmp_path)


def test_without_pillow(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"Pillow: pip install 'dynadiag\[train\]'"):
        data.load("imagenet", root)
