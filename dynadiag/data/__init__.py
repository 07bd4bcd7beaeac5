"""Data sets by name, with fixed splits and batches that are pure functions of seed and step."""

from __future__ import annotations

from .dataset import Dataset
from .loader import loader
from .registry import load, names
from .split import Batch, Split

__all__ = ["Batch", "Dataset", "Split", "load", "loader", "names"]
