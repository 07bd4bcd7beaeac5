"""The shim, built once, for the tests of the CUDA kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from dynadiag.kernels import cuda
from dynadiag.kernels.cuda import variants
from dynadiag.kernels.cuda.launcher import CupyLauncher, Launcher
from tests.kernels.cuda.shim import Order, Placement, ShimLauncher, Unit, compile_units

SOURCES = Path(cuda.__file__).parent
Libraries = Mapping[str, ctypes.CDLL]


@pytest.fixture(scope="session")
def shim_cache(pytestconfig: pytest.Config) -> Path:
    """A folder that outlives the session, so that unchanged sources are compiled once."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("cuda_shim")


@pytest.fixture(scope="session")
def libraries(shim_cache: Path) -> Libraries:
    """Every instance of every kernel: a unit a source, and for the largest one a unit a dtype."""
    expressions: dict[tuple[str, str], list[str]] = {}
    for variant in sorted(variants.ALL, key=lambda variant: variant.kernel != "multiply"):
        part = variant.element if variant.kernel == "multiply" else ""
        expressions.setdefault((variant.source, part), []).append(variant.expression)
    units = [Unit(SOURCES / source, tuple(all)) for (source, _), all in expressions.items()]
    return compile_units(units, shim_cache)


@dataclass(frozen=True)
class Machine:
    """Where kernels run: under the shim on the CPU, or on a card.

    Attributes:
        device: of the tensors.
        make_launcher: takes the order and the placement, which a card has no say in.
    """

    device: str
    make_launcher: Callable[[Order, Placement], Launcher]


@pytest.fixture(params=["shim", pytest.param("card", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Machine:
    if request.param == "card":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        return Machine("cuda", lambda order, placement: CupyLauncher())
    libraries = request.getfixturevalue("libraries")
    return Machine("cpu", lambda order, placement: ShimLauncher(libraries, order, placement))


@pytest.fixture(autouse=True)
def _alone(one_thread: None) -> None:
    """All of these problems are small."""
