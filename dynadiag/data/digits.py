"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from .dataset import Dataset
from .images import Images, mean_and_std
from .split import generator

# Seeds the division into splits: another number is another benchmark.
_DIVISION = 64
# The 359 images of one test split decide little; in turn all that do not validate are tested.
FOLDS = 4


def digits(fold: int = 0) -> Dataset:
    """Return the digits: of each class 60 % to train, 20 % to validate and 20 % to test.

    Args:
        fold: which of the four fifths that do not validate is the one to test, 0 to 3. The images
            that validate are always the same, so that what is chosen by them was never tested.

    Raises:
        ValueError: there is no such fold.
        ImportError: scikit-learn is not installed.
    """
    if fold not in range(FOLDS):
        raise ValueError(f"fold is {fold!r}, but digits have the folds 0 to {FOLDS - 1}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("digits come with scikit-learn: pip install 'dynadiag[train]'") from error
    bunch = load_digits()
    pixels = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)  # (n, 1, 8, 8), 0..16
    labels = torch.from_numpy(bunch.target).long()
    train, validation, test = _stratified(labels, fold)
    mean, std = mean_and_std(pixels[train])
    images = Images(pixels, labels, mean=mean, std=std)
    parts = images.only(train), images.only(validation), images.only(test)
    return Dataset("digits", *parts, classes=10, source="scikit-learn load_digits")


def _stratified(labels: torch.Tensor, fold: int) -> list[torch.Tensor]:
    """Return the indices of the three splits, each with the same shares of every class."""
    draw = generator(_DIVISION)
    parts: list[list[torch.Tensor]] = [[], [], []]
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = members[torch.randperm(len(members), generator=draw)]
        fifth = round(len(members) / 5)
        rest, validation, last = shuffled.split([len(members) - 2 * fifth, fifth, fifth])
        tested = [last, *rest.tensor_split(FOLDS - 1)]
        test = tested.pop(fold)
        for part, piece in zip(parts, (torch.cat(tested), validation, test), strict=True):
            part.append(piece)
    return [torch.cat(part).sort().values for part in parts]
