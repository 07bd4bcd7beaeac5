from __future__ import annotations

import pytest
import torch
from torch import Tensor

import dynadiag as dd
from dynadiag import kernels
from dynadiag.kernels import registry
from dynadiag.kernels.registry import Backend

KNOWN = ("auto", "cpu", "cuda", "dense", "reference")


class Broken(Backend):
    """A backend that this machine cannot run."""

    name = "broken"
    devices = ("cpu", "cuda")
    dtypes = (torch.float32, torch.bfloat16)

    def unavailable(self) -> str | None:
        return "it needs a part that is missing"

    def forward(
        self,
        x: Tensor,
        values: Tensor,
        offsets: Tensor,
        bias: Tensor | None,
        out_features: int,
        activation: str | None = None,
    ) -> Tensor:
        raise NotImplementedError

    def grad_x(self, grad: Tensor, values: Tensor, offsets: Tensor, in_features: int) -> Tensor:
        raise NotImplementedError

    def grad_values(self, grad: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setattr(registry, "_backends", dict(registry._backends))
    return registry.register(Broken())


def test_backends_are_listed_auto_first() -> None:
    listed = dd.backends()
    assert next(iter(listed)) == "auto"
    assert set(KNOWN) <= set(listed)
    assert listed["reference"] is listed["dense"] is listed["auto"] is None


def test_the_reason_for_an_unavailable_backend_is_listed(broken: Backend) -> None:
    assert dd.backends()["broken"] == "it needs a part that is missing"


def test_an_unavailable_backend_says_so_when_asked_for(broken: Backend) -> None:
    layer = dd.nn.DiagonalLinear(4, 4, num_diagonals=1, backend="broken")
    with pytest.raises(ValueError, match=r"a part that is missing.*backend='auto'"):
        layer(torch.randn(1, 4))


def test_a_device_or_dtype_not_taken_is_named(broken: Backend) -> None:
    assert broken.why_not("xpu", torch.float32) == (
        "backend 'broken' runs on cpu and cuda, not on xpu"
    )
    assert broken.why_not("cpu", torch.float64) == (
        "backend 'broken' takes float32, bfloat16, not float64"
    )
    assert broken.why_not("cpu", torch.float32) == "it needs a part that is missing"


@pytest.mark.parametrize("name", KNOWN[1:])
def test_get_returns_the_backend_of_a_name(name: str) -> None:
    assert kernels.get(name).name == name


@pytest.mark.parametrize("name", ["cuda9", "", "CPU"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown backend '{name}'; known are .*") as error:
        kernels.get(name)
    assert all(known in str(error.value) for known in KNOWN)
    with pytest.raises(ValueError, match="unknown backend"):
        kernels.check_name(name)


def test_a_backend_must_have_all_directions() -> None:
    class Half(Backend):
        def unavailable(self) -> str | None:
            return None

    with pytest.raises(TypeError, match="forward"):
        Half()  # type: ignore[abstract]
