"""The CUDA backend as a whole, plans and kernels, against the reference in float64.

Planned for several cards and run under the shim, on the CPU; with `-m gpu` on the card at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from dynadiag.kernels.cuda import Cuda
from dynadiag.kernels.cuda.device import Device
from tests.kernels.cuda.cards import A100, H200, KNOWN
from tests.kernels.cuda.conftest import Libraries
from tests.kernels.cuda.problems import (
    Problem,
    assert_product,
    draw,
    with_non_finite,
)
from tests.kernels.cuda.shim import ShimLauncher

# So little shared memory that a few hundred columns are too many: the naive kernels serve.
TINY = replace(H200, name="tiny", shared_per_block=2048, shared_per_sm=4096)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CASES = [
    *((1, 1, 1, 1), (1, 2, 2, 3), (2, 1, 1, 17), (33, 32, 33, 197)),
    *((497, 497, 1, 197), (497, 497, 50, 17), (497, 497, 497, 3), (96, 96, 96, 1)),
    *((698, 497, 35, 197), (698, 497, 698, 1), (698, 497, 80, 3), (698, 1, 9, 17)),
    *((497, 698, 35, 197), (497, 698, 698, 1), (497, 698, 80, 3), (1, 698, 9, 17)),
    *((3081, 3081, 31, 3), (3081, 497, 20, 17), (497, 3081, 20, 17)),
]


@dataclass(frozen=True)
class Setup:
    """A backend, where its tensors lie, and under the shim what ran."""

    backend: Cuda
    device: str
    launcher: ShimLauncher | None = None

    def products(self, problem: Problem) -> dict[str, Tensor]:
        moved = problem.to(self.device).products(self.backend)
        return {direction: result.cpu() for direction, result in moved.items()}


def on_shim(libraries: Libraries, device: Device) -> Setup:
    launcher = ShimLauncher(libraries, shared_bytes=device.shared_per_block)
    return Setup(Cuda(launcher, lambda tensor: device), "cpu", launcher)


@pytest.fixture(
    params=[*KNOWN, TINY, pytest.param(None, marks=pytest.mark.gpu)],
    ids=lambda device: "card" if device is None else device.slug,
)
def setup(request: pytest.FixtureRequest) -> Setup:
    if request.param is not None:
        return on_shim(request.getfixturevalue("libraries"), request.param)
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return Setup(Cuda(), "cuda")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_directions(setup: Setup, case: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    problem = draw(*case, dtype)
    for direction, result in setup.products(problem).items():
        assert_product(result, problem, direction)


def test_every_kernel_is_planned_for_something(libraries: Libraries) -> None:
    kernels, tiles = set(), set()
    for device in (H200, A100, TINY):
        setup = on_shim(libraries, device)
        assert setup.launcher is not None
        for m, n, k, batch in CASES:
            setup.products(draw(m, n, k, batch, torch.bfloat16))
        kernels |= {variant.kernel for variant in setup.launcher.launched}
        tiles |= {one.rows for one in setup.launcher.launched if one.kernel == "multiply"}
    assert kernels == {"multiply", "grad_values", "reduce", "naive_multiply", "naive_grad_values"}
    assert tiles == {1, 4, 8}


@pytest.mark.parametrize("batch", [2, 17])
@pytest.mark.parametrize("shape", [(97, 97), (40, 97), (97, 40)], ids=str)
def test_nan_and_infinity_reach_exactly_the_outputs_they_should(
    setup: Setup, shape: tuple[int, int], batch: int
) -> None:
    problem = with_non_finite(draw(*shape, 60, batch, torch.bfloat16))
    for direction, result in setup.products(problem).items():
        assert torch.equal(result.isfinite(), problem.exact[direction].isfinite())
