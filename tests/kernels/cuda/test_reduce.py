"""Adding up slices, and the conversions from and to 16 bits that every kernel shares."""

from __future__ import annotations

import pytest
import torch

from tests.kernels.cuda.conftest import Machine
from tests.kernels.cuda.launches import reduce
from tests.kernels.cuda.problems import assert_rounded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("rows", "row"), [(1, 1), (3, 33), (17, 97), (1, 200)])
@pytest.mark.parametrize("slices", [1, 2, 9])
def test_reduce(machine: Machine, slices: int, rows: int, row: int, dtype: torch.dtype) -> None:
    torch.manual_seed(slices)
    partial, bias = torch.randn(slices, rows, row), torch.randn(row).to(dtype)
    exact = partial.double().sum(0) + bias.double()
    magnitude = partial.double().abs().sum(0) + bias.double().abs()
    device, launcher = machine.device, machine.make_launcher("reverse", "end")
    out = torch.empty(rows, row, dtype=dtype, device=device)
    reduce(launcher, partial.to(device), bias.to(device), out, 0)
    assert_rounded(out, exact, magnitude, slices + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_number_of_16_bits_goes_through_unchanged(
    machine: Machine, dtype: torch.dtype
) -> None:
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).short().view(dtype)
    sums, out = numbers.float()[None, None], numbers.new_empty(1, len(numbers)).to(machine.device)
    reduce(machine.make_launcher("forward", "end"), sums.to(machine.device), None, out, 0)
    assert torch.equal(out.cpu()[0].isnan(), numbers.isnan())
    assert torch.equal(out.cpu()[0].nan_to_num(), numbers.nan_to_num())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounding_to_16_bits_is_to_nearest_even(machine: Machine, dtype: torch.dtype) -> None:
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).short().view(dtype)
    numbers = numbers[numbers.isfinite()].double().sort().values
    halfway = (numbers[1:] + numbers[:-1]) / 2
    around = torch.cat([halfway.float().nextafter(halfway.float() + side) for side in (-1, 0, 1)])
    around = torch.cat([around, torch.tensor([65519.0, 65520.0, 1e30, -1e30, 3e38, -1e-30])])
    out = around.new_empty(1, len(around), dtype=dtype).to(machine.device)
    partial = around[None, None].to(machine.device)
    reduce(machine.make_launcher("forward", "end"), partial, None, out, 0)
    assert torch.equal(out.cpu()[0], around.to(dtype))
