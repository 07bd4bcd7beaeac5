"""The shim finds what it promises to find, and runs sound kernels as a card would."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.kernels.cuda.shim import (
    ORDERS,
    PLACEMENTS,
    Order,
    Placement,
    ShimError,
    ShimLauncher,
    Unit,
    compile_units,
)

KERNELS = (
    *(f"{name}<{sound}>" for name in ("neighbour", "twice", "within_warp") for sound in (0, 1)),
    *("some_leave", "two_barriers", "lane_returns", "lane_at_barrier", "masks_differ"),
    *("outside_own_mask", "reads_absent_lane", "warp", "copy", "store", "store_byte"),
    *("write_input", "sum_shared", "copy_four", "overflow", "deep", "turns"),
)
Run = Callable[..., None]


@pytest.fixture(scope="session")
def faulty(shim_cache: Path) -> Mapping[str, ctypes.CDLL]:
    unit = Unit(Path(__file__).parent / "faulty.cu", tuple(f"faulty::{name}" for name in KERNELS))
    return compile_units([unit], shim_cache)


@pytest.fixture
def run(faulty: Mapping[str, ctypes.CDLL]) -> Run:
    def run(
        name: str,
        *args: Tensor | int | None,
        blocks: int = 1,
        threads: int = 64,
        shared_bytes: int = 256,
        order: Order = "forward",
        placement: Placement = "end",
    ) -> None:
        launcher = ShimLauncher(faulty, order, placement)
        launcher.run(f"faulty::{name}", (blocks, 1, 1), threads, shared_bytes, args)

    return run


def ints(count: int = 64) -> Tensor:
    return torch.zeros(count, dtype=torch.int32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("kernel", "distance"), [("neighbour", 1), ("twice", 32), ("within_warp", None)]
)
def test_sound_kernels_give_the_same_in_every_order(
    run: Run, kernel: str, distance: int | None, order: Order
) -> None:
    out, threads = ints(), torch.arange(64, dtype=torch.int32)
    run(f"{kernel}<1>", out, order=order)
    if distance is None:
        assert torch.equal(out, threads ^ 1)
    elif kernel == "neighbour":
        assert torch.equal(out, (threads + 1) % 64)
    else:
        assert torch.equal(out, (threads + 32) % 64 * 2 + 1000)


@pytest.mark.parametrize("kernel", ["neighbour", "twice", "within_warp"])
def test_a_missing_barrier_shows_in_some_order(run: Run, kernel: str) -> None:
    sound, orders = ints(), []
    run(f"{kernel}<1>", sound)
    for order in ORDERS:
        out = ints()
        run(f"{kernel}<0>", out, order=order)
        orders.append(torch.equal(out, sound))
    assert not all(orders)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("some_leave", r"thread 32: divergent barrier: it has returned, but thread 0 waits at"),
        ("two_barriers", r"thread 32: divergent barrier: it waits at faulty.cu:\d+, but thread 0"),
        ("lane_returns", r"thread 0: waits at faulty.cu:\d+ for lane 5, which has returned"),
        ("lane_at_barrier", r"thread 0: waits at .* for lane 5, which waits at the barrier of"),
        ("masks_differ", r"thread 1: is at .* while lane 0 waits with another mask"),
        ("outside_own_mask", r"thread 0: is not in the mask it passes at faulty.cu:\d+"),
        ("reads_absent_lane", r"lane 0 reads lane 20, which is not in the mask"),
    ],
)
def test_threads_that_fail_to_meet(run: Run, kernel: str, message: str) -> None:
    with pytest.raises(ShimError, match=rf"faulty::{kernel}, block \(0, 0, 0\), .*{message}"):
        run(kernel, ints())


def test_a_warp_short_of_lanes_cannot_meet(run: Run) -> None:
    with pytest.raises(ShimError, match=r"thread 39: waits .* lane 8, which the block does not"):
        run("within_warp<1>", ints(40), threads=40)


def test_parts_of_a_warp_meet_by_mask(run: Run) -> None:
    numbers = torch.arange(32, dtype=torch.int32) % 3 - 1
    votes = sum(1 << lane for lane in range(32) if lane % 3 == 2)
    out = ints(32)
    run("warp", numbers, out, threads=32, order="shuffled")
    low, high = votes & 0xFFFF, votes & 0xFFFF0000
    expected = torch.tensor([*[low] * 15, *[high - 2**32 if high >> 31 else high] * 16, low])
    assert torch.equal(out, expected.int())


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_reading_out_of_bounds(run: Run, placement: Placement, shift: int) -> None:
    numbers, out = torch.ones(100), torch.zeros(100)
    run("copy", numbers, out, 100, 0, blocks=2, placement=placement)
    assert bool(out.eq(1).all())
    if (shift < 0) == (placement == "begin"):
        byte, where = (
            (-4, r"\(0, 0, 0\), thread 0") if shift < 0 else (400, r"\(1, 0, 0\), thread 35")
        )
        message = rf"copy, block {where}: accesses byte {byte} of argument 0, which has 400"
        with pytest.raises(ShimError, match=message):
            run("copy", numbers, out, 100, shift, blocks=2, placement=placement)
    else:  # poison instead
        run("copy", numbers, out, 100, shift, blocks=2, placement=placement)
        assert int(out.isnan().sum()) == 1


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_writing_out_of_bounds(run: Run, placement: Placement, shift: int) -> None:
    out = torch.zeros(100)
    byte = -4 if shift < 0 else 400
    with pytest.raises(ShimError, match=rf"(accesses|wrote) byte {byte} of argument 0"):
        run("store", out, 100, shift, blocks=2, placement=placement)
    assert bool(out.eq(0).all()), "what failed leaves no trace"


@pytest.mark.parametrize("index", [-(2**24), -5, 100, 2**24])
def test_writing_far_out_of_bounds(run: Run, index: int) -> None:
    for placement in PLACEMENTS:
        with pytest.raises(ShimError, match=rf"byte {index} of argument 0, which has 100"):
            run("store_byte", torch.zeros(100, dtype=torch.uint8), index, placement=placement)


def test_writing_to_an_input(run: Run) -> None:
    numbers = torch.zeros(64)
    with pytest.raises(ShimError, match="thread 0: writes to argument 0, an input"):
        run("write_input", numbers, torch.zeros(64))
    assert bool(numbers.eq(0).all())


def test_a_null_pointer(run: Run) -> None:
    with pytest.raises(ShimError, match="thread 0: accesses memory that is no argument"):
        run("copy", None, torch.zeros(64), 64, 0)


def test_what_no_thread_writes_is_nan(run: Run) -> None:
    out = torch.zeros(64)
    run("store", out, 60, 0)
    assert out.isnan().nonzero().flatten().tolist() == [60, 61, 62, 63]


def test_uninitialised_shared_memory_is_nan_in_every_block(run: Run) -> None:
    out = torch.zeros(64)
    run("sum_shared", out, 0, 64, shared_bytes=260)
    assert bool(out.eq(64).all())
    run("sum_shared", out, 0, 65, shared_bytes=260)
    assert bool(out.isnan().all())


@pytest.mark.parametrize(("first", "byte"), [(-1, -4), (1, 256)])
def test_shared_memory_out_of_bounds(run: Run, first: int, byte: int) -> None:
    placement: Placement = "begin" if first < 0 else "end"
    message = rf"thread 0: accesses byte {byte} of the shared memory, which has 256"
    with pytest.raises(ShimError, match=message):
        run("sum_shared", torch.zeros(64), first, 64, placement=placement)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"shared_bytes": 227 * 1024 + 1}, "232449 bytes of shared memory exceed 232448"),
        ({"threads": 1056}, "a block of 1056 threads is not within 1024"),
        ({"blocks": 0}, r"a grid of \(0, 1, 1\) is not within"),
    ],
)
def test_what_a_card_refuses_to_launch(run: Run, limits: dict[str, int], message: str) -> None:
    with pytest.raises(ShimError, match=message):
        run("store", torch.zeros(64), 64, 0, **limits)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_misaligned_access(run: Run, shift: int) -> None:
    numbers, out = torch.arange(8.0), torch.zeros(4)
    run("copy_four", numbers, out, 4, threads=1)
    assert out.tolist() == [4, 5, 6, 7]
    with pytest.raises(ShimError, match="thread 0: misaligned access"):
        run("copy_four", numbers, out, shift, threads=1)


def test_overflow_of_an_integer(run: Run) -> None:
    out = ints(1)
    run("overflow", out, 46340, threads=1)
    assert int(out) == 46340**2
    with pytest.raises(ShimError, match="overflow of a signed integer"):
        run("overflow", out, 46341, threads=1)


def test_a_stack_that_overflows(run: Run) -> None:
    with pytest.raises(ShimError, match="needs more stack than the 65536 bytes it has"):
        run("deep", ints(1), 2**30, threads=1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((torch.zeros(1), torch.zeros(1), 2**31, 0), "argument 2 is 2147483648, which its type"),
        ((torch.zeros(1), torch.zeros(1), 1), "takes 4 arguments, but got 3"),
        ((1, torch.zeros(1), 1, 0), "argument 0 is a buffer, but got an integer"),
        ((torch.zeros(1), torch.zeros(1), torch.zeros(1), 0), "argument 2 is an integer, but got"),
        ((torch.zeros(4, 4).T, torch.zeros(1), 1, 0), r"strides \(1, 4\), not contiguous"),
    ],
)
def test_arguments_that_do_not_fit(run: Run, args: tuple[Tensor | int, ...], message: str) -> None:
    with pytest.raises(ShimError, match=message):
        run("copy", *args)


def test_orders_of_blocks_warps_and_lanes(run: Run) -> None:
    seen = {}
    for order in ORDERS:
        out = ints(4 * 96)
        run("turns", out, ints(1), blocks=4, threads=96, order=order)
        seen[order] = (out - out.min()).tolist()
    assert seen["forward"] == list(range(384))
    assert seen["reverse"] == list(range(384))[::-1]
    assert sorted(seen["shuffled"]) == list(range(384))
    assert seen["shuffled"] not in (seen["forward"], seen["reverse"])


def test_a_fault_leaves_the_launcher_usable(run: Run) -> None:
    for _ in range(3):
        with pytest.raises(ShimError, match="lane 5"):
            run("lane_returns", ints())
        out = ints()
        run("neighbour<1>", out)
        assert int(out[63]) == 0
        assert int(out[0]) == 1


def test_a_source_that_does_not_compile(tmp_path: Path) -> None:
    source = tmp_path / "broken.cu"
    source.write_text("this is no kernel")
    with pytest.raises(AssertionError, match=r"broken\.cu:1"):
        compile_units([Unit(source, ())], tmp_path)


def test_a_changed_header_is_compiled_anew(tmp_path: Path) -> None:
    source, header = tmp_path / "a.cu", tmp_path / "a.cuh"
    source.write_text('#include "a.cuh"\n__global__ void answer(int* out) { *out = ANSWER; }\n')
    for answer in (41, 42, 42):
        header.write_text(f"#define ANSWER {answer}\n")
        launcher = ShimLauncher(compile_units([Unit(source, ("answer",))], tmp_path))
        out = ints(1)
        launcher.run("answer", (1, 1, 1), 1, 0, [out])
        assert int(out) == answer
    assert len(list(tmp_path.glob("*.so"))) == 2
