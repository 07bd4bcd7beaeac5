from __future__ import annotations

import torch
from torch import Generator

from dynadiag.data.images import Images, crop_and_flip, mean_and_std

PIXELS = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)


def test_mean_and_std_are_those_of_each_channel() -> None:
    mean, std = mean_and_std(PIXELS)
    torch.testing.assert_close(mean, PIXELS.float().mean((0, 2, 3)))
    torch.testing.assert_close(std, PIXELS.float().std((0, 2, 3), correction=0))


def test_images_are_standardised_and_augmented_only_in_training() -> None:
    mean, std = mean_and_std(PIXELS)
    labels = torch.tensor([3, 5])
    images = Images(PIXELS, labels, mean=mean, std=std, augment=lambda x, _: x + 100)
    x, y = images.take(torch.tensor([1]))
    torch.testing.assert_close(x, (PIXELS[1:].float() - mean[:, None, None]) / std[:, None, None])
    assert y.tolist() == [5]
    trained, y = images.batch(0, seed=0, size=1)
    torch.testing.assert_close(trained - 100, images.take((labels == y).nonzero()[0])[0])


def test_crops_are_windows_of_the_padded_image_or_of_its_mirror() -> None:
    images = torch.rand(200, 2, 5, 6)
    crops = crop_and_flip(images, Generator().manual_seed(0), padding=1)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    kinds = set()
    for image, crop in zip(padded, crops, strict=True):
        found = [
            (top, left, mirrored)
            for top in range(3)
            for left in range(3)
            for mirrored in (False, True)
            if torch.equal(
                image[:, top : top + 5, left : left + 6].flip(2 if mirrored else ()), crop
            )
        ]
        assert len(found) == 1
        kinds.add(found[0])
    assert len(kinds) == 18
