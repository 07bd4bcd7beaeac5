"""The backend: what it launches, and whether the results are right, under the shim or on a card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product as pairs

import pytest
import torch
from torch import Tensor

from dynadiag import kernels
from dynadiag.kernels import cuda
from dynadiag.kernels.activation import ACTIVATIONS
from dynadiag.kernels.cache import BuildError
from dynadiag.kernels.cuda import compiler, device
from dynadiag.kernels.cuda.device import Device
from dynadiag.kernels.cuda.launcher import Argument, Grid
from dynadiag.kernels.cuda.variants import Variant
from tests.kernels.cuda.cards import H200, RTX_4090
from tests.kernels.cuda.conftest import Machine
from tests.kernels.cuda.problems import assert_product, assert_rounded, draw

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1), (33, 33), (200, 96), (96, 200), (97, 31)]
# So small that rows of more than a few columns do not fit.
TINY = replace(H200, shared_per_block=1400)


@dataclass
class Recorder:
    """A launcher that fills what it is given, and says what it was asked for."""

    kernels: list[str] = field(default_factory=list)
    args: list[tuple[Argument, ...]] = field(default_factory=list)

    def launch(
        self,
        variant: Variant,
        grid: Grid,
        block: int,
        shared_bytes: int,
        args: Sequence[Argument],
    ) -> None:
        assert len(args) == len(variant.arguments)
        for arg, letter in zip(args, variant.arguments, strict=True):
            assert isinstance(arg, int) == (letter != "p")
            assert not isinstance(arg, Tensor) or arg.is_contiguous()
        self.kernels.append(variant.kernel)
        self.args.append(tuple(args))


def recording(card: Device = H200) -> tuple[cuda.Cuda, Recorder]:
    recorder = Recorder()
    return cuda.Cuda(recorder, lambda tensor: card), recorder


def on(machine: Machine, card: Device = H200) -> cuda.Cuda:
    return cuda.Cuda(machine.make_launcher("shuffled", "end"), lambda tensor: card)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 3, 40])
def test_products_are_right(machine: Machine, dtype: torch.dtype, batch: int) -> None:
    for (m, n), share in pairs(SHAPES, (0.1, 1.0)):
        problem = draw(m, n, max(1, round(share * max(m, n))), batch, dtype)
        for direction, result in problem.to(machine.device).products(on(machine)).items():
            assert_product(result, problem, direction)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_slices_of_the_diagonals_add_up(machine: Machine, dtype: torch.dtype) -> None:
    backend, recorder = recording()
    problem = draw(200, 96, 190, 3, dtype)
    problem.products(backend)
    assert recorder.kernels == ["multiply", "reduce"] * 2 + ["grad_values", "reduce"]
    for direction, result in problem.to(machine.device).products(on(machine)).items():
        assert_product(result, problem, direction)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(300, 300), (310, 301), (301, 310)], ids=str)
def test_rows_too_long_for_shared_memory_are_served(
    machine: Machine, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    backend, recorder = recording(TINY)
    problem = draw(*shape, 20, 9, dtype)
    problem.products(backend)
    assert recorder.kernels[-1] == "naive_grad_values"
    for direction, result in problem.to(machine.device).products(on(machine, TINY)).items():
        assert_product(result, problem, direction)


@pytest.mark.parametrize("k", [7, 190])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_is_torchs(machine: Machine, activation: str, k: int) -> None:
    problem = draw(200, 96, k, 3, torch.float32).to(machine.device)
    y = on(machine).forward(
        problem.x, problem.values, problem.offsets, problem.bias, 200, activation
    )
    exact, magnitude = problem.exact["forward"], problem.magnitudes["forward"]
    function = ACTIVATIONS[activation]
    # No slope exceeds 1.13, and each function itself rounds a few times.
    assert_rounded(y, function(exact), 1.13 * magnitude, problem.terms("forward") + 8)


def test_leading_dimensions_and_strides_are_those_of_x(machine: Machine) -> None:
    problem = draw(33, 33, 5, 12, torch.float32).to(machine.device)
    x = problem.x.reshape(3, 4, 33).transpose(0, 1)
    values = problem.values.T.contiguous().T
    y = on(machine).forward(x, values, problem.offsets, problem.bias, 33)
    assert y.shape == (4, 3, 33)
    expected = problem.exact["forward"].reshape(3, 4, 33).transpose(0, 1)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 9), (2, 0, 9)], ids=str)
def test_an_empty_batch_launches_nothing(shape: tuple[int, ...]) -> None:
    backend, recorder = recording()
    problem = draw(6, 9, 3, 1, torch.float16)
    x, grad = torch.empty(shape, dtype=torch.float16), torch.empty(*shape[:-1], 6).half()
    y = backend.forward(x, problem.values, problem.offsets, None, 6)
    assert (y.shape, y.dtype) == ((*shape[:-1], 6), torch.float16)
    assert backend.grad_x(grad, problem.values, problem.offsets, 9).shape == shape
    sums = backend.grad_values(grad, x, problem.offsets)
    assert torch.equal(sums, torch.zeros(3, 6, dtype=torch.float16))
    assert recorder.kernels == []


def test_one_vector_is_a_batch_of_one(machine: Machine) -> None:
    problem = draw(33, 33, 5, 1, torch.float32).to(machine.device)
    y = on(machine).forward(problem.x[0], problem.values, problem.offsets, problem.bias, 33)
    assert y.shape == (33,)
    torch.testing.assert_close(y.double(), problem.exact["forward"][0], rtol=1e-5, atol=1e-5)


def test_bias_and_activation_follow_the_sum_of_the_slices() -> None:
    backend, recorder = recording()
    problem = draw(200, 96, 190, 3, torch.float32)
    backend.forward(problem.x, problem.values, problem.offsets, problem.bias, 200, "silu")
    product, total = recorder.args
    partial = product[5]
    assert isinstance(partial, Tensor)
    assert product[3:5] == (None, None)
    assert product[-1] == 0
    assert total[0] is partial
    assert total[1] is not None
    assert total[3:] == (3 * 200, len(partial), 200, 3)


def test_an_unknown_activation_is_refused_before_any_launch() -> None:
    backend, recorder = recording()
    problem = draw(33, 33, 5, 1, torch.float32)
    with pytest.raises(ValueError, match="unknown activation 'tanh'; known are relu, gelu, silu"):
        backend.forward(problem.x, problem.values, problem.offsets, None, 33, "tanh")
    assert recorder.kernels == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_are_the_same_each_time(machine: Machine, dtype: torch.dtype) -> None:
    problem = draw(97, 31, 60, 40, dtype).to(machine.device)
    first, second = (problem.products(on(machine)) for _ in range(2))
    assert all(torch.equal(first[direction], second[direction]) for direction in first)


@pytest.fixture
def reason(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str | None]:
    """Asks why the backend is unavailable, on a machine with an H200 and all that is needed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(compiler, "import_cupy", lambda: None)
    monkeypatch.setattr(compiler, "import_nvrtc", lambda: None)
    return cuda._unavailable.__wrapped__


def test_a_card_with_cupy_and_nvrtc_is_all_it_needs(reason: Callable[[], str | None]) -> None:
    assert reason() is None


def test_without_a_card_it_says_so(
    reason: Callable[[], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reason() == "no CUDA device: torch sees none"


def test_an_old_card_is_named(
    reason: Callable[[], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA P100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 0))
    assert reason() == "NVIDIA P100 is sm_60, but the kernels need sm_70 or newer"


@pytest.mark.parametrize("part", ["import_cupy", "import_nvrtc"])
def test_a_missing_part_is_the_reason(
    part: str, reason: Callable[[], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise BuildError("install it")

    monkeypatch.setattr(compiler, part, fails)
    assert reason() == "install it"


def test_the_device_is_read_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name = "NVIDIA GeForce RTX 4090"
        major, minor = 8, 9
        multi_processor_count = 128
        shared_memory_per_block_optin = 99 * 1024
        shared_memory_per_multiprocessor = 100 * 1024
        regs_per_multiprocessor = 65536
        max_threads_per_multi_processor = 1536

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties)
    device.Device.of.cache_clear()
    try:
        assert Device.of(0) == RTX_4090
    finally:
        device.Device.of.cache_clear()


def test_it_is_registered() -> None:
    assert isinstance(kernels.get("cuda"), cuda.Cuda)
    assert kernels.get("cuda").why_not("cpu", torch.float32) == (
        "backend 'cuda' runs on cuda, not on cpu"
    )
