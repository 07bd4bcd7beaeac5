from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

import dynadiag as dd
from dynadiag import kernels
from dynadiag.bench.memory import peak_bytes

SHAPES = [(6, 6), (9, 4), (4, 9), (1, 5), (5, 1), (97, 49), (49, 97)]
LEADS = [(), (1,), (5,), (2, 3), (2, 1, 17), (0,), (3, 0)]
BACKENDS = ["auto", "cpu", "dense", "reference"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name != "auto":
        with warnings.catch_warnings(action="ignore"):
            reason = kernels.get(name).unavailable()
        if reason is not None:
            pytest.skip(reason)
    return name


def draw(
    m: int, n: int, k: int, lead: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, values, offsets, bias; the offsets in no order."""
    torch.manual_seed(0)
    return (
        torch.randn(*lead, n, dtype=dtype, requires_grad=True),
        torch.randn(k, min(m, n), dtype=dtype, requires_grad=True),
        torch.randperm(max(m, n))[:k].int(),
        torch.randn(m, dtype=dtype, requires_grad=True),
    )


def gradients(y: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return torch.autograd.grad(y, leaves, torch.randn(y.shape, dtype=y.dtype))


@pytest.mark.parametrize("lead", LEADS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_dense_linear_and_its_gradients(
    shape: tuple[int, int], lead: tuple[int, ...], backend: str
) -> None:
    m, n = shape
    for k in {1, min(3, max(shape)), max(shape)}:
        x, values, offsets, bias = draw(m, n, k, lead)
        weight = dd.diagonal_to_dense(values, offsets, out_features=m, in_features=n)
        y = dd.diagonal_linear(x, values, offsets, bias, out_features=m, backend=backend)
        expected = F.linear(x, weight, bias)
        torch.testing.assert_close(y, expected)
        ours, theirs = gradients(y, x, values, bias), gradients(expected, x, values, bias)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        with torch.no_grad():  # the shorter path of inference
            again = dd.diagonal_linear(x, values, offsets, bias, out_features=m, backend=backend)
        assert torch.equal(again, y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_dtypes(dtype: torch.dtype, backend: str) -> None:
    if dtype == torch.float64 and backend == "cpu":
        pytest.skip("the cpu kernels take no float64")
    x, values, offsets, bias = draw(97, 49, 11, (17,), dtype)
    y = dd.diagonal_linear(x, values, offsets, bias, out_features=97, backend=backend)
    grads = gradients(y, x, values, bias)
    assert {t.dtype for t in (y, *grads)} == {dtype}
    wide = [t.detach().double().requires_grad_() for t in (x, values, bias)]
    exact = dd.diagonal_linear(
        wide[0], wide[1], offsets, wide[2], out_features=97, backend="reference"
    )
    torch.manual_seed(1)
    upstream = torch.randn(y.shape, dtype=dtype).double()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.double(), exact, rtol=4 * eps, atol=16 * eps)
    for ours, theirs in zip(grads, torch.autograd.grad(exact, wide, upstream), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=4 * eps, atol=32 * eps)


@pytest.mark.parametrize("name", ["auto", "dense", "reference"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)], ids=str)
def test_gradients_of_first_and_second_order(shape: tuple[int, int], name: str) -> None:
    m, n = shape
    x, values, offsets, bias = draw(m, n, 2, (2,), torch.float64)

    def call(x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        return dd.diagonal_linear(x, values, offsets, bias, out_features=m, backend=name)

    assert gradcheck(call, (x, values, bias))
    assert gradgradcheck(call, (x, values, bias))


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)], ids=str)
def test_gradients_of_the_conversions(shape: tuple[int, int]) -> None:
    m, n = shape
    _, values, offsets, _ = draw(m, n, 2, (1,), torch.float64)
    weight = torch.randn(m, n, dtype=torch.float64, requires_grad=True)

    def to_dense(values: Tensor) -> Tensor:
        return dd.diagonal_to_dense(values, offsets, out_features=m, in_features=n)

    def to_diagonal(weight: Tensor) -> Tensor:
        return dd.dense_to_diagonal(weight, offsets)

    assert gradcheck(to_dense, values)
    assert gradgradcheck(to_dense, values)
    assert gradcheck(to_diagonal, weight)
    assert gradgradcheck(to_diagonal, weight)


@pytest.mark.parametrize("shape", [(97, 97), (97, 50), (50, 97)], ids=str)
def test_gradients_of_gradients_are_those_of_the_reference(shape: tuple[int, int]) -> None:
    m, n = shape
    x, values, offsets, bias = draw(m, n, 5, (3,))
    grad = torch.randn(3, m, requires_grad=True)

    def orders(name: str) -> list[Tensor]:
        y = dd.diagonal_linear(x, values, offsets, bias, out_features=m, backend=name)
        first = torch.autograd.grad(y, [x, values, bias], grad, create_graph=True)
        mixed = torch.stack([one.sin().sum() for one in first]).sum()
        second = torch.autograd.grad(mixed, [x, values, grad], create_graph=True)
        bent = torch.stack([one.cos().sum() for one in second]).sum()
        third = torch.autograd.grad(bent, [x, values, grad])
        return [*first, *second, *third]

    for mine, right in zip(orders("cpu"), orders("reference"), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-4 * right.abs().max().item())


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("name", ["relu", "gelu", "silu"])
def test_activations(name: str, trained: bool, backend: str) -> None:
    x, values, offsets, bias = (tensor.detach() for tensor in draw(97, 50, 5, (3,)))
    values.requires_grad_(trained)
    call = functools.partial(dd.diagonal_linear, x, values, offsets, bias, out_features=97)
    expected = getattr(torch.nn.functional, name)(call(backend=backend))
    y = call(backend=backend, activation=name)
    torch.testing.assert_close(y, expected)
    if trained:
        wanted, *_ = torch.autograd.grad(expected.sum(), values)
        torch.testing.assert_close(torch.autograd.grad(y.sum(), values)[0], wanted)


def test_an_unknown_activation_is_refused() -> None:
    x, values, offsets, bias = draw(4, 4, 2, (1,))
    with pytest.raises(ValueError, match="'tanh'; known are relu, gelu, silu, None"):
        dd.diagonal_linear(x, values, offsets, bias, out_features=4, activation="tanh")


def gradients_computed(y: Tensor) -> list[str]:
    with torch.autograd.profiler.profile() as recording:
        y.sum().backward()
    names = [event.name for event in recording.function_events]
    return [kind for kind in ("grad_x", "grad_values") if any(kind in name for name in names)]


def test_only_the_gradients_asked_for_are_computed(backend: str) -> None:
    def product(x: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        return dd.diagonal_linear(x, values, offsets, bias, out_features=97, backend=backend)

    x, values, offsets, bias = draw(97, 97, 5, (3,))
    assert gradients_computed(product(x, values)) == ["grad_x", "grad_values"]
    assert gradients_computed(product(x, values.detach())) == ["grad_x"]
    assert gradients_computed(product(x.detach(), values)) == ["grad_values"]
    assert gradients_computed(product(x.detach(), values.detach(), bias)) == []
    assert bias.grad is not None
    assert bias.grad.unique().tolist() == [3.0]


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64], ids=str)
def test_conversions_are_inverse(index_dtype: torch.dtype) -> None:
    for m, n in SHAPES:
        every = torch.randperm(max(m, n)).to(index_dtype)
        weight = torch.randn(m, n)
        values = dd.dense_to_diagonal(weight, every)
        assert values.shape == (max(m, n), min(m, n))
        assert torch.equal(
            dd.diagonal_to_dense(values, every, out_features=m, in_features=n), weight
        )


def test_cells_of_the_dense_matrix_follow_the_convention() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    offsets = torch.tensor([2, 0], dtype=torch.int32)
    tall = dd.diagonal_to_dense(values, offsets, out_features=3, in_features=2)
    assert tall.tolist() == [[3, 2], [0, 4], [1, 0]]
    wide = dd.diagonal_to_dense(values, offsets, out_features=2, in_features=3)
    assert wide.tolist() == [[3, 0, 1], [2, 4, 0]]


def test_64_bit_offsets_give_the_same(backend: str) -> None:
    x, values, offsets, bias = draw(9, 4, 3, (5,))
    y = dd.diagonal_linear(x, values, offsets, bias, out_features=9, backend=backend)
    z = dd.diagonal_linear(x, values, offsets.long(), bias, out_features=9, backend=backend)
    assert torch.equal(y, z)


def test_any_strides(backend: str) -> None:
    x, values, offsets, bias = draw(97, 49, 5, (6, 4))
    y = dd.diagonal_linear(x, values, offsets, bias, out_features=97, backend=backend)
    turned = dd.diagonal_linear(
        x.transpose(0, 1).contiguous().transpose(0, 1),
        values.t().contiguous().t(),
        torch.stack([offsets, torch.zeros_like(offsets)], 1)[:, 0],
        torch.stack([bias, bias], 1)[:, 0],
        out_features=97,
        backend=backend,
    )
    torch.testing.assert_close(turned, y)
    torch.testing.assert_close(
        gradients(turned, x, values, bias), gradients(y, x, values, bias), rtol=1e-4, atol=1e-5
    )


def test_results_repeat_to_the_bit(backend: str) -> None:
    x, values, offsets, bias = draw(97, 49, 31, (40,))

    def call() -> tuple[Tensor, ...]:
        y = dd.diagonal_linear(x, values, offsets, bias, out_features=97, backend=backend)
        return (y, *gradients(y, x, values, bias))

    first = call()
    torch.use_deterministic_algorithms(True)
    try:
        second = call()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_inference_mode_and_no_grad(backend: str) -> None:
    x, values, offsets, bias = draw(9, 4, 3, (5,))
    y = dd.diagonal_linear(x, values, offsets, bias, out_features=9, backend=backend)
    with torch.no_grad():
        assert not dd.diagonal_linear(
            x, values, offsets, bias, out_features=9, backend=backend
        ).requires_grad
    with torch.inference_mode():
        fresh = [t.clone() for t in (x, values, offsets, bias)]
        for operands in (fresh, (x, values, offsets, bias), fresh):
            z = dd.diagonal_linear(*operands, out_features=9, backend=backend)
            assert z.is_inference()
            assert torch.equal(z, y)


def test_autocast(backend: str) -> None:
    x, values, offsets, bias = draw(97, 49, 7, (17,))
    exact = dd.diagonal_linear(x, values, offsets, bias, out_features=97, backend="reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = dd.diagonal_linear(x, values, offsets, bias, out_features=97, backend=backend)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.03, atol=0.1)
    for ours, theirs in zip(
        gradients(y.float(), x, values, bias), gradients(exact, x, values, bias), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0.03, atol=0.2)


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
@pytest.mark.parametrize("shape", [(96, 96), (96, 32), (32, 96)], ids=str)
def test_one_graph_when_compiled(shape: tuple[int, int]) -> None:
    m, n = shape
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()

    def call(x: Tensor, values: Tensor, offsets: Tensor, bias: Tensor) -> Tensor:
        return dd.diagonal_linear(x.relu(), values, offsets, bias, out_features=m).tanh()

    compiled = torch.compile(call, fullgraph=True, backend=counter)
    x, values, offsets, bias = draw(m, n, 5, (4,))
    for _ in range(3):
        y, expected = (f(x, values, offsets, bias) for f in (compiled, call))
        torch.testing.assert_close(y, expected)
        ours, theirs = gradients(y, x, values, bias), gradients(expected, x, values, bias)
        torch.testing.assert_close(ours, theirs)
        with torch.no_grad():
            values.sub_(0.1 * ours[1])
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_compiled_by_the_default_compiler() -> None:
    torch._dynamo.reset()

    def call(x: Tensor, values: Tensor, offsets: Tensor, bias: Tensor) -> Tensor:
        return dd.diagonal_linear(x.relu(), values, offsets, bias, out_features=96).tanh()

    x, values, offsets, bias = draw(96, 32, 5, (4,))
    y = torch.compile(call, fullgraph=True)(x, values, offsets, bias)
    expected = call(x, values, offsets, bias)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(gradients(y, x, values, bias), gradients(expected, x, values, bias))


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_a_step_forms_no_dense_weight_and_no_temporary_of_every_product(name: str) -> None:
    m, n, k, batch = 1024, 1024, 8, 32
    x, values, offsets, bias = draw(m, n, k, (batch,))

    def step() -> tuple[Tensor, ...]:
        y = dd.diagonal_linear(x, values, offsets, bias, out_features=m, backend=name)
        return torch.autograd.grad(y, (x, values, bias), y)

    with warnings.catch_warnings(action="ignore"):
        reason = kernels.get(name).unavailable()
    if reason is not None:
        pytest.skip(reason)
    peak = peak_bytes(step)
    assert peak.reason is None
    assert peak.bytes is not None
    limit = 6 * x.nbytes + 8 * values.nbytes
    assert limit < batch * k * n * 4 + 2 * x.nbytes  # y and dx are there in any case
    assert limit < m * n * 4
    assert peak.bytes <= limit


def test_deepcopy_of_operands_changes_nothing(backend: str) -> None:
    x, values, offsets, bias = draw(9, 4, 3, (5,))
    y = dd.diagonal_linear(x, values, offsets, bias, out_features=9, backend=backend)
    twins = copy.deepcopy((x, values, offsets, bias))
    with torch.no_grad():
        twins[1].mul_(2)
    doubled = dd.diagonal_linear(*twins, out_features=9, backend=backend)
    torch.testing.assert_close(doubled - bias, 2 * (y - bias))
    assert torch.equal(
        dd.diagonal_linear(x, values, offsets, bias, out_features=9, backend=backend), y
    )


def ints(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


# The good call: x (3, 4), values (2, 4), offsets (2,), bias (6,), out_features 6.
SHAPE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "x scalar": ({"x": torch.tensor(1.0)}, "x is a scalar.*last dimension"),
    "x empty": ({"x": torch.randn(3, 0)}, r"in_features is 0.*at least 1"),
    "x too wide": ({"x": torch.randn(3, 5)}, r"values have shape \(2, 4\).*6 x 5.*need \(2, 5\)"),
    "out_features": ({"out_features": 0}, r"out_features is 0.*at least 1"),
    "values short": ({"values": torch.randn(2, 3)}, r"\(2, 3\).*need \(2, 4\)"),
    "values flat": ({"values": torch.randn(8)}, r"\(8,\).*need \(2, 4\)"),
    "values of fewer": ({"values": torch.randn(1, 4)}, r"\(1, 4\).*2 offsets.*need \(2, 4\)"),
    "no offsets": ({"offsets": ints()}, r"num_diagonals is 0.*pass 1 to 6"),
    "too many": ({"offsets": torch.arange(7)}, r"num_diagonals is 7.*pass 1 to 6"),
    "offsets square": ({"offsets": ints(1, 2).reshape(1, 2)}, r"shape \(1, 2\).*one list"),
    "bias short": ({"bias": torch.randn(5)}, r"bias has shape \(5,\).*must be \(6,\)"),
    "bias square": ({"bias": torch.randn(6, 1)}, r"bias has shape \(6, 1\).*must be \(6,\)"),
    "unknown backend": ({"backend": "gpu"}, "unknown backend 'gpu'; known are auto, .*reference"),
    "x on meta": ({"x": torch.empty(3, 4, device="meta")}, "x is on meta.*values on cpu.*to()"),
    "values on meta": ({"values": torch.empty(2, 4, device="meta")}, "on cpu.*values on meta"),
    "offsets on meta": ({"offsets": ints(0, 5).to("meta")}, "offsets is on meta.*values on cpu"),
    "bias on meta": ({"bias": torch.empty(6, device="meta")}, "bias is on meta.*values on cpu"),
}
TYPE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "x double": ({"x": torch.randn(3, 4).double()}, r"x is torch.float64.*torch.float32.*\.to"),
    "bias half": ({"bias": torch.randn(6).half()}, r"bias is torch.float16.*torch.float32"),
    "values bfloat16": ({"values": torch.randn(2, 4).bfloat16()}, r"x is torch.float32.*bfloat16"),
    "float offsets": ({"offsets": torch.tensor([0.0, 5.0])}, r"offsets are torch.float32.*int32"),
    "bool offsets": ({"offsets": torch.tensor([True, False])}, r"offsets are torch.bool"),
}


def call_with(**changes: Any) -> Tensor:
    operands: dict[str, Any] = {
        "x": torch.randn(3, 4),
        "values": torch.randn(2, 4),
        "offsets": ints(0, 5),
        "bias": torch.randn(6),
        "out_features": 6,
        "backend": "reference",
    }
    return dd.diagonal_linear(**(operands | changes))


def test_the_good_call_works() -> None:
    assert call_with().shape == (3, 6)


@pytest.mark.parametrize("kind", SHAPE_ERRORS)
def test_operands_that_do_not_fit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, message = SHAPE_ERRORS[kind]
    monkeypatch.setattr(
        kernels.get("reference"), "forward", lambda *_: pytest.fail("work was done")
    )
    with pytest.raises(ValueError, match=message):
        call_with(**changes)


@pytest.mark.parametrize("kind", TYPE_ERRORS)
def test_dtypes_that_do_not_fit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, message = TYPE_ERRORS[kind]
    monkeypatch.setattr(
        kernels.get("reference"), "forward", lambda *_: pytest.fail("work was done")
    )
    with pytest.raises(TypeError, match=message):
        call_with(**changes)


def test_a_dtype_the_backend_does_not_take() -> None:
    double = {name: torch.zeros(s).double() for name, s in (("x", (3, 4)), ("values", (2, 4)))}
    with pytest.raises(ValueError, match=r"'cpu' takes float32.*not float64.*backend='auto'"):
        call_with(**double, bias=None, backend="cpu")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 0], "offset 0 is given twice.*once"),
        ([-1, 0], r"offset -1 is outside \[0, 6\)"),
        ([0, 6], r"offset 6 is outside \[0, 6\).*modulo 6"),
    ],
)
def test_bad_offsets_are_refused_by_every_backend(
    offsets: list[int], message: str, dtype: torch.dtype, backend: str
) -> None:
    if dtype == torch.float32:  # refused by type, whatever they are
        with pytest.raises(TypeError, match=r"offsets are torch\.float32"):
            call_with(offsets=torch.tensor(offsets, dtype=dtype), backend=backend)
        return
    bad = torch.tensor(offsets, dtype=dtype)
    values = torch.randn(2, 4, requires_grad=True)
    with pytest.raises(ValueError, match=message):
        call_with(offsets=bad, values=values, backend=backend)
    with pytest.raises(ValueError, match=message), torch.no_grad():
        call_with(offsets=bad, values=values, backend=backend)


def test_offsets_beyond_32_bits_are_refused(backend: str) -> None:
    with pytest.raises(ValueError, match="4294967296"):
        call_with(offsets=torch.tensor([2**32, 1]), backend=backend)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: dd.dense_to_diagonal(torch.randn(6), o), r"weight has shape \(6,\).*matrix"),
        (lambda o: dd.dense_to_diagonal(torch.randn(0, 4), o), "out_features is 0"),
        (lambda o: dd.dense_to_diagonal(torch.randn(4, 4), o), r"offset 5 is outside \[0, 4\)"),
        (lambda o: dd.dense_to_diagonal(torch.randn(1, 1), o), "num_diagonals is 2.*pass 1 to 1"),
        (
            lambda o: dd.diagonal_to_dense(torch.randn(2, 4), o, out_features=6, in_features=5),
            r"values have shape \(2, 4\).*6 x 5.*need \(2, 5\)",
        ),
        (
            lambda o: dd.diagonal_to_dense(torch.randn(2, 4), o, out_features=5, in_features=4),
            r"offset 5 is outside \[0, 5\)",
        ),
        (
            lambda o: dd.diagonal_to_dense(torch.randn(2, 4), o * 0, out_features=6, in_features=4),
            "offset 0 is given twice",
        ),
    ],
)
def test_conversions_refuse_what_does_not_fit(
    call: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(ints(0, 5))


def test_meta_tensors_have_shapes_only() -> None:
    x, values, bias = (torch.empty(s, device="meta") for s in ((2, 3, 4), (2, 4), (6,)))
    offsets = ints(0, 5).to("meta")
    y = dd.diagonal_linear(x, values, offsets, bias, out_features=6)
    assert y.is_meta
    assert y.shape == (2, 3, 6)


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_forward_mode_gradients_are_right_or_refused() -> None:
    x, values, offsets, _ = (t.detach() for t in draw(6, 4, 2, (3,)))

    def call(x: Tensor) -> Tensor:
        return dd.diagonal_linear(x, values, offsets, out_features=6)

    try:
        tangent = torch.func.jvp(call, (x,), (x,))[1]
    except (RuntimeError, NotImplementedError):
        return
    torch.testing.assert_close(tangent, call(x))  # the product is linear in x
