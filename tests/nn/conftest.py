"""Stand-ins for libraries that need a card."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from dynadiag.nn import cusparse, cusparse_unbound, tuning

from .fake_cusparse import FakeCusparse


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing measured yet."""
    monkeypatch.setattr(tuning, "_fastest", {})


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCusparse]:
    """cuSPARSE for tensors on the CPU; when the test is over, no descriptor may be left."""
    fake = FakeCusparse()
    monkeypatch.setattr(cusparse, "bindings", lambda: (fake, fake))
    monkeypatch.setattr(cusparse_unbound, "_library", lambda: fake)
    monkeypatch.setattr(cusparse, "why_not", lambda device, dtype: None)
    current = lambda device: SimpleNamespace(cuda_stream=fake.torch_stream)  # noqa: E731
    monkeypatch.setattr(torch.cuda, "current_stream", current)
    yield fake
    if fake.alive:  # the collector takes half a second among thousands of tests
        gc.collect()
    assert not fake.alive
