"""Launching, with a stand-in for CuPy that records what a card would be told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynadiag.kernels.cuda import compiler
from dynadiag.kernels.cuda.compiler import Binary
from dynadiag.kernels.cuda.device import Device
from dynadiag.kernels.cuda.launcher import CupyLauncher, pack
from dynadiag.kernels.cuda.resources import Resources
from dynadiag.kernels.cuda.variants import Variant
from tests.kernels.cuda.cards import H200

REDUCE = Variant("reduce", torch.float32)


class OnCard(Tensor):
    """A tensor that says it is on a card."""

    card: int

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.card)


def on_card(card: int = 0) -> Tensor:
    tensor: OnCard = torch.zeros(4).as_subclass(OnCard)
    tensor.card = card
    return tensor


class FakeCupy:
    """Records loads and launches, with the device and the stream they happen on."""

    def __init__(self) -> None:
        self.device: int | None = None
        self.stream: int | None = None
        self.loaded: list[tuple[str, int | None]] = []
        self.launched: list[dict[str, Any]] = []
        self.cuda = SimpleNamespace(
            Device=self._on_device, Stream=SimpleNamespace(from_external=self._on_stream)
        )

    @contextmanager
    def _on_device(self, index: int) -> Iterator[None]:
        before, self.device = self.device, index
        yield
        self.device = before

    @contextmanager
    def _on_stream(self, stream: Any) -> Iterator[None]:
        version, handle = stream.__cuda_stream__()
        assert version == 0
        before, self.stream = self.stream, handle
        yield
        self.stream = before

    def RawModule(self, path: str) -> SimpleNamespace:
        self.loaded.append((path, self.device))
        return SimpleNamespace(get_function=lambda name: FakeFunction(self, name))


class FakeFunction:
    max_dynamic_shared_size_bytes = 48 * 1024

    def __init__(self, cupy: FakeCupy, name: str) -> None:
        self.cupy, self.name = cupy, name

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int
    ) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes, "invalid value"
        self.cupy.launched.append(
            {
                "name": self.name,
                "grid": grid,
                "block": block,
                "args": args,
                "shared": shared_mem,
                "device": self.cupy.device,
                "stream": self.cupy.stream,
            }
        )


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The handle of the current stream of each card; may be changed."""
    handles = {0: 7, 1: 8}
    monkeypatch.setattr(
        torch.cuda,
        "current_stream",
        lambda device: SimpleNamespace(cuda_stream=handles[device]),
    )
    return handles


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, streams: dict[int, int]) -> FakeCupy:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(Device, "of", lambda index: H200)

    def load(variant: Variant, arch: str) -> Binary:
        path = Path(f"{variant.kernel}-{arch}.cubin")
        return Binary(path, f"_Z{variant.kernel}", Resources(32, 0, 0, 0, 0))

    monkeypatch.setattr(compiler, "load", load)
    return fake


def launch(launcher: CupyLauncher, out: Tensor, shared_bytes: int = 0) -> None:
    args = (out, None, out, 2**40, 3, 4, 1)
    launcher.launch(REDUCE, (5, 2, 1), 256, shared_bytes, args)


def test_a_launch_passes_addresses_sizes_and_the_current_stream(cupy: FakeCupy) -> None:
    out = on_card()
    launch(CupyLauncher(), out)
    (seen,) = cupy.launched
    assert seen["args"][:3] == (out.data_ptr(), 0, out.data_ptr())
    assert seen["args"][3:] == (2**40, 3, 4, 1)
    assert [type(arg) for arg in seen["args"][3:]] == [np.int64, np.int32, np.int32, np.int32]
    del seen["args"]
    assert seen == {
        "name": "_Zreduce",
        "grid": (5, 2, 1),
        "block": (256,),
        "shared": 0,
        "device": 0,
        "stream": 7,
    }


def test_the_stream_is_looked_up_each_time(cupy: FakeCupy, streams: dict[int, int]) -> None:
    launcher = CupyLauncher()
    launch(launcher, on_card())
    streams[0] = 99
    launch(launcher, on_card())
    assert [seen["stream"] for seen in cupy.launched] == [7, 99]


def test_a_kernel_is_loaded_once_for_each_card(cupy: FakeCupy) -> None:
    launcher = CupyLauncher()
    for card in (0, 1, 0, 1):
        launch(launcher, on_card(card))
    assert cupy.loaded == [("reduce-sm_90.cubin", 0), ("reduce-sm_90.cubin", 1)]
    assert [(seen["device"], seen["stream"]) for seen in cupy.launched] == [(0, 7), (1, 8)] * 2
    assert (cupy.device, cupy.stream) == (None, None)


def test_much_shared_memory_is_asked_for(cupy: FakeCupy) -> None:
    launcher = CupyLauncher()
    for shared_bytes in (1024, 100 * 1024, 200 * 1024, 150 * 1024):
        launch(launcher, on_card(), shared_bytes)
    assert [seen["shared"] // 1024 for seen in cupy.launched] == [1, 100, 200, 150]


def test_arguments_must_be_as_many_as_the_kernel_has() -> None:
    with pytest.raises(ValueError, match="shorter"):
        pack(REDUCE, (torch.zeros(1), None))


def test_an_integer_too_large_for_its_argument_is_refused() -> None:
    args = (torch.zeros(1), None, None, 1, 2**31, 1, 0)
    with pytest.raises(OverflowError):
        pack(REDUCE, args)
