"""Plans: what they cover, that they fit, and that no multiprocessor waits long for the others."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynadiag.kernels.cuda import cost
from dynadiag.kernels.cuda.cost import Launch
from dynadiag.kernels.cuda.device import Device
from dynadiag.kernels.cuda.plan import plan_grad_values, plan_multiply, plan_reduce
from dynadiag.kernels.cuda.variants import ALL, ELEMENTS, Variant
from tests.kernels.cuda.cards import A100, H200, KNOWN, RTX_4090
from tests.kernels.cuda.conftest import SOURCES

DTYPES = list(ELEMENTS)
DEVICES = pytest.mark.parametrize("device", KNOWN, ids=lambda device: device.slug)
sizes = st.one_of(st.integers(1, 300), st.integers(300, 20000))


def multiply_768(device: Device, dtype: torch.dtype, batch: int, k: int = 77) -> Launch:
    return plan_multiply(device, dtype, batch, 768, 768, k, scatter=True)


def efficiency(device: Device, plan: Launch) -> float:
    """The share of the time that multiprocessors work, if blocks are dealt evenly."""
    return plan.blocks / device.sms / math.ceil(plan.blocks / device.sms)


def assert_fits(device: Device, plan: Launch) -> None:
    assert plan.variant in ALL
    assert plan.block % 32 == 0
    assert 32 <= plan.block <= min(1024, device.threads_per_sm)
    assert plan.shared_bytes <= device.shared_per_block
    assert min(plan.grid) >= 1
    assert plan.grid[0] < 2**31
    assert max(plan.grid[1:]) <= 65535


def covered(blocks: int, step: int, size: int) -> list[int]:
    """How often each of `size` outputs is written by blocks that walk on by all their threads."""
    counts = [0] * size
    for block in range(blocks):
        for first in range(block * step, size, blocks * step):
            for i in range(first, min(first + step, size)):
                counts[i] += 1
    return counts


def slices_of(count: int, slices: int) -> list[int]:
    """The sizes of the slices of diagonals, as multiply.cu cuts them."""
    share = -(-count // slices)
    return [min(share, count - begin) for begin in range(0, slices * share, share)]


@given(
    st.sampled_from(KNOWN),
    st.sampled_from(DTYPES),
    st.one_of(st.integers(1, 300), st.integers(1, 2**31 - 1)),
    sizes,
    sizes,
    st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_a_product_is_covered_once_and_fits(
    device: Device, dtype: torch.dtype, batch: int, shorter: int, longer: int, density: float
) -> None:
    shorter, longer = sorted((shorter, longer))
    k = max(1, round(density * longer))
    for scatter, (in_size, out_size) in enumerate([(longer, shorter), (shorter, longer)]):
        plan = plan_multiply(device, dtype, batch, in_size, out_size, k, scatter=bool(scatter))
        assert_fits(device, plan)
        assert plan.variant.scatter == bool(scatter)
        if plan.is_naive:
            assert plan.grid[0] == batch
        else:
            rows = plan.variant.rows * plan.variant.panels
            assert plan.grid[0] == -(-batch // rows)
            assert plan.shared_bytes == cost.shared_bytes(plan.variant, in_size, plan.block)
        assert set(covered(plan.grid[1], plan.block, out_size)) == {1}
        assert min(slices_of(k, plan.slices)) >= 1


@given(st.sampled_from(KNOWN), st.sampled_from(DTYPES), st.integers(1, 70000), sizes, sizes, sizes)
@settings(max_examples=60, deadline=None)
def test_a_gradient_is_covered_once_and_fits(
    device: Device, dtype: torch.dtype, batch: int, shorter: int, longer: int, k: int
) -> None:
    shorter, longer = sorted((shorter, longer))
    k = min(k, longer)
    plan = plan_grad_values(device, dtype, batch, shorter, longer, k)
    assert_fits(device, plan)
    assert plan.grid[0] == -(-shorter // plan.block)
    if plan.is_naive:
        assert 1 <= plan.grid[1] <= k
    else:
        assert plan.grid[1] == -(-k // cost.CHUNK)
        assert plan.slices <= -(-batch // (plan.variant.rows * plan.variant.panels))
        assert plan.shared_bytes == cost.shared_bytes(plan.variant, longer, plan.block)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 2**33])
def test_a_sum_of_slices_has_a_thread_for_each_element(size: int) -> None:
    plan = plan_reduce(torch.float16, size)
    assert size <= plan.grid[0] * plan.block < size + plan.block


@DEVICES
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_batches_come_in_whole_waves(device: Device, dtype: torch.dtype) -> None:
    for in_size, out_size in ((768, 768), (768, 3072)):
        plan = plan_multiply(device, dtype, 12608, in_size, out_size, 77, scatter=True)
        assert efficiency(device, plan) > 0.95


def test_the_waves_of_an_h200_are_those_of_the_docstring() -> None:
    plan = multiply_768(H200, torch.bfloat16, 12608)
    assert (plan.variant.rows * plan.variant.panels, plan.grid[0]) == (24, 526)
    assert efficiency(H200, plan) > 0.99
    assert efficiency(H200, replace(plan, grid=(-(-12608 // 56), 1, 1))) < 0.87


@DEVICES
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("shape", [(768, 768), (3072, 768), (768, 3072), (4096, 11008)], ids=str)
def test_few_rows_use_every_multiprocessor(
    device: Device, dtype: torch.dtype, batch: int, shape: tuple[int, int]
) -> None:
    k = max(shape) // 10
    plan = plan_multiply(device, dtype, batch, *shape, k, scatter=shape[1] >= shape[0])
    assert plan.blocks >= device.sms
    assert max(slices_of(k, plan.slices)) >= 8


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_few_rows_take_the_smallest_vector(dtype: torch.dtype, batch: int) -> None:
    variant = multiply_768(H200, dtype, batch).variant
    assert (variant.rows, variant.panels) == ({1: 1, 2: 2, 3: 4, 4: 4}[batch], 1)


def test_where_the_batch_has_few_tiles_blocks_share_the_outputs() -> None:
    plan = multiply_768(H200, torch.bfloat16, 500)
    assert plan.grid[1] > 1
    assert plan.blocks >= H200.sms / 2


def test_large_batches_are_not_sliced() -> None:
    assert multiply_768(H200, torch.float16, 1024).slices == 1


@pytest.mark.parametrize(
    ("device", "columns"),
    [(H200, 28_000), (A100, 20_000), (RTX_4090, 12_000)],
    ids=["h200", "a100", "rtx-4090"],
)
def test_long_rows_take_thinner_tiles_then_the_naive_kernel(device: Device, columns: int) -> None:
    kinds = [
        plan_multiply(device, torch.float32, 100, longer, 64, 8, scatter=False).variant
        for longer in (1000, columns, 2 * columns, 8 * columns)
    ]
    assert [variant.rows for variant in kinds] == [4, 2, 1, 0]
    assert [variant.kernel for variant in kinds] == ["multiply"] * 3 + ["naive_multiply"]
    gradient = plan_grad_values(device, torch.float32, 100, 64, columns, 8)
    assert gradient.is_naive


def test_a_plan_is_made_once() -> None:
    assert multiply_768(H200, torch.float16, 321) is multiply_768(H200, torch.float16, 321)


def test_gradients_of_large_batches_use_every_multiprocessor() -> None:
    for dtype in DTYPES:
        plan = plan_grad_values(H200, dtype, 12608, 768, 768, 77)
        assert plan.blocks >= H200.sms
        assert efficiency(H200, plan) > 0.9


def conditional(name: str, source: str, variant: Variant) -> int:
    """The value of a constexpr function of the sources, `condition ? number : ...`."""
    text = (SOURCES / source).read_text()
    found = re.search(rf"int {name}\(int (\w+)\) \{{\s*return (.*?);\s*\}}", text)
    assert found is not None
    numbers = {"sums": variant.rows * variant.panels, "panels": variant.panels}
    rest = found[2]
    while " ? " in rest:
        condition, _, rest = rest.partition(" ? ")
        chosen, _, rest = rest.partition(" : ")
        if eval(condition, {found[1]: numbers[found[1]]}):
            return int(chosen)
    return int(rest)


@pytest.mark.parametrize("name", ["max_threads", "in_flight"])
def test_limits_of_a_product_are_those_of_its_source(name: str) -> None:
    for variant in ALL:
        if variant.kernel == "multiply":
            assert getattr(cost, name)(variant) == conditional(name, "multiply.cu", variant)


def test_the_limit_of_a_gradient_is_that_of_its_source() -> None:
    text = (SOURCES / "grad_values.cu").read_text()
    bounds = re.search(r"__launch_bounds__\((\d+)(, 1)?\)\s+grad_values", text)
    assert bounds is not None
    assert int(bounds[1]) == cost.max_threads(Variant("grad_values", torch.float16, 8, 1))


def test_shared_memory_is_that_of_the_sources() -> None:
    text = (SOURCES / "tile.cuh").read_text()
    assert "tile_bytes = round_up((columns + 31) * G * R * sizeof(T), 16)" in text
    assert f"lists      = {cost.LIST_BYTES} * (threads / 32)" in text
    variant = Variant("multiply", torch.bfloat16, 8, 3)
    whole = (768 + 31) * 3 * 16 + 8 * cost.LIST_BYTES
    assert cost.shared_bytes(variant, 768, 256) == whole
    assert cost.tile_bytes(Variant("multiply", torch.bfloat16, 1, 1), 768) == 1600  # 1598 in full


def test_devices_hold_what_their_vendor_says() -> None:
    assert [device.sms for device in KNOWN] == [132, 108, 128]
    assert [device.shared_per_block // 1024 for device in KNOWN] == [227, 163, 99]
    assert H200.slug == "nvidia-h200"


def test_a_multiprocessor_holds_what_fits() -> None:
    variant = Variant("multiply", torch.bfloat16, 8, 3)
    assert cost.resident(H200, variant, 256, 40 * 1024) == 4  # registers: 64 a thread
    assert cost.resident(H200, variant, 32, 60 * 1024) == 3  # shared memory
    assert cost.resident(H200, variant, 32, 0) == cost.BLOCKS
    assert cost.resident(RTX_4090, variant, 512, 0) == 2  # registers: 65536 / (64 * 512)
