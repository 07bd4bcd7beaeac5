"""What every data set offers: three fixed splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from .split import Split


@final
@dataclass(frozen=True)
class Dataset:
    """A data set whose examples always fall into the same splits.

    Attributes:
        name: as in `names()`.
        train: what weights are fitted to.
        validation: what settings are chosen by.
        test: what is reported.
        classes: number of values a target may have: the classes, or the tokens of a vocabulary.
        source: where the examples came from, in words a report can print.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    source: str
