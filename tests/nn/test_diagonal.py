from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional as F
from torch.nn.utils import prune

import dynadiag as dd
from dynadiag import geometry
from dynadiag.nn import DiagonalLinear

SIZES = [(12, 12), (12, 20), (20, 12), (1, 5), (5, 1), (1, 1)]
STRUCTURES: list[dict[str, Any]] = [
    {"sparsity": 0.8},
    {"num_diagonals": 1},
    {"offsets": [0]},
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def assert_linear(layer: DiagonalLinear, x: Tensor) -> None:
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_it_is_a_linear_layer(sizes: tuple[int, int], structure: dict[str, Any]) -> None:
    for bias in (True, False):
        layer = DiagonalLinear(*sizes, bias, **structure)
        assert (layer.bias is not None) == bias
        assert layer.weight.shape == (sizes[1], sizes[0])
        for lead in ((), (0,), (1,), (2, 3), (17,)):
            assert_linear(layer, torch.randn(*lead, sizes[0]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_gradients_equal_those_of_the_dense_layer(dtype: torch.dtype) -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.7, dtype=dtype)
    x = torch.randn(3, 5, 20, dtype=dtype, requires_grad=True)
    assert layer.bias is not None
    leaves = (x, layer.values, layer.bias)
    upstream = torch.randn(3, 5, 12, dtype=dtype)
    ours = torch.autograd.grad(layer(x), leaves, upstream)
    theirs = torch.autograd.grad(F.linear(x, layer.weight, layer.bias), leaves, upstream)
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_one_way_to_say_how_many() -> None:
    assert DiagonalLinear(768, 3072, sparsity=0.9).num_diagonals == 307
    assert DiagonalLinear(768, 3072, num_diagonals=7).num_diagonals == 7
    layer = DiagonalLinear(4, 6, offsets=[5, 0, 3])
    assert layer.num_diagonals == 3
    assert layer.offsets.tolist() == [5, 0, 3]
    assert layer.offsets.dtype == torch.int32


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ({}, "got none of sparsity, num_diagonals and offsets; pass exactly one"),
        ({"sparsity": 0.5, "num_diagonals": 2}, "got sparsity and num_diagonals.*exactly one"),
        ({"sparsity": 0.5, "offsets": [0]}, "got sparsity and offsets"),
        ({"num_diagonals": 1, "offsets": [0]}, "got num_diagonals and offsets"),
        ({"sparsity": 1.0}, r"sparsity is 1\.0.*\[0, 1\)"),
        ({"sparsity": -0.5}, r"sparsity is -0\.5"),
        ({"num_diagonals": 0}, "num_diagonals is 0.*pass 1 to 6"),
        ({"num_diagonals": 7}, "num_diagonals is 7.*pass 1 to 6"),
        ({"offsets": [1, 1]}, "offset 1 is given twice"),
        ({"offsets": [-1]}, r"offset -1 is outside \[0, 6\)"),
        ({"offsets": [6]}, r"offset 6 is outside \[0, 6\)"),
        ({"offsets": [[0]]}, r"shape \(1, 1\)"),
        ({"sparsity": 0.5, "backend": "best"}, "unknown backend 'best'; known are auto"),
    ],
    ids=str,
)
def test_bad_structure(structure: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiagonalLinear(4, 6, **structure)


@pytest.mark.parametrize(("sizes", "name"), [((0, 4), "in_features"), ((4, -1), "out_features")])
def test_bad_sizes(sizes: tuple[int, int], name: str) -> None:
    for structure in STRUCTURES:
        with pytest.raises(ValueError, match=f"{name} is .*at least 1"):
            DiagonalLinear(*sizes, **structure)


def test_float_offsets_are_refused() -> None:
    with pytest.raises(TypeError, match=r"float32.*pass integers"):
        DiagonalLinear(4, 6, offsets=torch.tensor([0.0, 1.0]))


def test_bad_input() -> None:
    layer = DiagonalLinear(4, 6, sparsity=0.5)
    with pytest.raises(ValueError, match=r"shape \(3, 5\).*in_features = 4"):
        layer(torch.randn(3, 5))
    with pytest.raises(ValueError, match=r"shape \(\)"):
        layer(torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"float64.*float32"):
        layer(torch.randn(3, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"on meta.*on cpu"):
        layer(torch.randn(3, 4, device="meta"))


def test_sizes_reported() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.83, dtype=torch.bfloat16)
    assert layer.num_diagonals == 3
    assert layer.nnz == int((layer.weight != 0).sum()) == 3 * 12
    assert layer.sparsity == pytest.approx(0.85)
    assert layer.requested_sparsity == 0.83
    assert layer.index_dtype == "int32"
    assert DiagonalLinear.why_not(20, 12, 0.83) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_weight_bytes_are_values_and_offsets_alone(dtype: torch.dtype) -> None:
    layer = DiagonalLinear(768, 300, sparsity=0.9, dtype=dtype)
    k, d = layer.num_diagonals, 300
    assert layer.weight_bytes == k * d * dtype.itemsize + 4 * k
    held = [*layer.parameters(), *layer.buffers()]
    assert layer.bias is not None
    assert sum(t.nbytes for t in held) == layer.weight_bytes + layer.bias.nbytes


def test_repr() -> None:
    assert repr(DiagonalLinear(20, 12, sparsity=0.83)) == (
        "DiagonalLinear(in_features=20, out_features=12, bias=True, sparsity=0.85)"
    )


def test_config_names_the_backend_and_the_diagonals() -> None:
    layer = DiagonalLinear(20, 12, num_diagonals=3, backend="dense")
    assert layer.config == "backend=dense num_diagonals=3"


def test_random_offsets_are_distinct_and_follow_the_seed() -> None:
    torch.manual_seed(3)
    first = DiagonalLinear(100, 40, sparsity=0.5)
    torch.manual_seed(3)
    second = DiagonalLinear(100, 40, sparsity=0.5)
    third = DiagonalLinear(100, 40, sparsity=0.5)
    assert len(set(first.offsets.tolist())) == 50
    assert torch.equal(first.offsets, second.offsets)
    assert torch.equal(first.values, second.values)
    assert not torch.equal(first.offsets, third.offsets)


def test_every_offset_is_drawn_alike() -> None:
    counts = torch.zeros(10)
    for _ in range(400):
        counts[DiagonalLinear(10, 4, num_diagonals=2).offsets.long()] += 1
    assert float(counts.min()) > 80 - 4 * 8  # 80 expected, with a deviation of 8
    assert float(counts.max()) < 80 + 4 * 8


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("sizes", [(768, 768), (768, 1536), (1536, 768)], ids=str)
def test_outputs_start_with_the_variance_of_a_dense_layer(
    sizes: tuple[int, int], sparsity: float
) -> None:
    x = torch.randn(200, sizes[0])
    with torch.no_grad():
        dense = nn.Linear(*sizes)(x).var()
        ours = DiagonalLinear(*sizes, sparsity=sparsity)(x).var()
    assert float(ours / dense) == pytest.approx(1, abs=0.1)


def test_fresh_values_keep_the_offsets() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.5)
    offsets, values = layer.offsets.clone(), layer.values.detach().clone()
    layer.reset_parameters()
    assert torch.equal(layer.offsets, offsets)
    assert not torch.equal(layer.values, values)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_from_linear_keeps_the_heaviest_diagonals(sizes: tuple[int, int]) -> None:
    linear = nn.Linear(*sizes)
    k = (max(sizes) + 1) // 2
    layer = DiagonalLinear.from_linear(linear, num_diagonals=k)
    weight = linear.weight.detach()
    every = torch.arange(max(sizes), dtype=torch.int32)
    energy = dd.dense_to_diagonal(weight, every).square().sum(1)
    assert set(layer.offsets.tolist()) == set(energy.topk(k).indices.tolist())
    kept = torch.zeros_like(weight, dtype=torch.bool)
    kept[geometry.cells(layer.offsets, *weight.shape)] = True
    assert torch.equal(layer.weight, weight * kept)
    assert layer.bias is not None
    assert torch.equal(layer.bias, linear.bias)
    assert layer.bias is not linear.bias


def test_from_linear_takes_the_earlier_of_equal_diagonals() -> None:
    linear = nn.Linear(6, 6)
    nn.init.ones_(linear.weight)
    assert DiagonalLinear.from_linear(linear, num_diagonals=2).offsets.tolist() == [0, 1]


def test_from_linear_without_loss() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.8, bias=False, dtype=torch.float64)
    linear = layer.to_linear()
    again = DiagonalLinear.from_linear(linear, sparsity=0.8)
    assert again.bias is None
    assert again.values.dtype == torch.float64
    assert torch.equal(again.weight, layer.weight)
    full = DiagonalLinear.from_linear(linear, sparsity=0.0)
    assert torch.equal(full.weight, linear.weight)


def test_to_linear_is_independent() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.8)
    linear = layer.to_linear()
    x = torch.randn(3, 20)
    torch.testing.assert_close(linear(x), layer(x))
    before = layer.weight
    with torch.no_grad():
        linear.weight.zero_()
        assert linear.bias is not None
        linear.bias.zero_()
    assert torch.equal(layer.weight, before)


def test_weight_is_differentiable_in_values() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.8)
    upstream = torch.randn(12, 20)
    layer.weight.backward(upstream)
    assert layer.values.grad is not None
    assert torch.equal(layer.values.grad, dd.dense_to_diagonal(upstream, layer.offsets))


def test_strict_state_dict_round_trip() -> None:
    layer, other = (DiagonalLinear(20, 12, sparsity=0.8) for _ in range(2))
    assert set(layer.state_dict()) == {"values", "offsets", "bias"}
    x = torch.randn(3, 20)
    before = other(x)
    other.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(other(x), layer(x))
    assert not torch.equal(other(x), before)


def test_weights_travel_without_pickled_code() -> None:
    layer, other = (DiagonalLinear(20, 12, sparsity=0.8) for _ in range(2))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.weight, layer.weight)


@pytest.mark.parametrize("backend", ["auto", "dense"])
def test_loading_after_use_is_seen(backend: str) -> None:
    layer, other = (DiagonalLinear(20, 12, sparsity=0.8, backend=backend) for _ in range(2))
    x = torch.randn(3, 20)
    other(x)
    other.load_state_dict(layer.state_dict())
    assert_linear(other, x)
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ([0, 0, 1, 2], "given twice"),
        ([0, 1, 2, -1], "outside"),
        ([0, 1, 2, 20], "outside"),
    ],
)
def test_foreign_offsets_are_refused(offsets: list[int], reason: str) -> None:
    layer = DiagonalLinear(20, 12, num_diagonals=4)
    before = copy.deepcopy(layer.state_dict())
    state = layer.state_dict() | {"offsets": torch.tensor(offsets, dtype=torch.int32)}
    with pytest.raises(RuntimeError, match=f"offsets is no valid pattern: .*{reason}"):
        layer.load_state_dict(state)
    assert all(torch.equal(layer.state_dict()[name], before[name]) for name in before)


def test_offsets_of_another_shape_are_refused() -> None:
    layer = DiagonalLinear(20, 12, num_diagonals=4)
    with pytest.raises(RuntimeError, match=r"size mismatch for offsets"):
        layer.load_state_dict(DiagonalLinear(20, 12, num_diagonals=3).state_dict())


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_is_independent(how: str) -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.8, backend="dense")
    x = torch.randn(3, 20)
    layer(x).sum().backward()
    twin = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    before = layer(x)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        twin.values.mul_(2)
    assert torch.equal(layer(x), before)
    assert_linear(twin, x)


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_made_on_meta_then_loaded(structure: dict[str, Any]) -> None:
    layer = DiagonalLinear(20, 12, **structure)
    with torch.device("meta"):
        within = DiagonalLinear(20, 12, **structure)
    for empty in (DiagonalLinear(20, 12, device="meta", **structure), within):
        assert all(t.is_meta for t in empty.state_dict().values())
        assert empty.num_diagonals == layer.num_diagonals
        filled = empty.to_empty(device="cpu")
        filled.load_state_dict(layer.state_dict())
        assert torch.equal(filled.weight, layer.weight)
        assigned = DiagonalLinear(20, 12, device="meta", **structure)
        assigned.load_state_dict(layer.state_dict(), assign=True)
        assert_linear(assigned, torch.randn(3, 20))


def test_meta_layers_give_shapes() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.8, device="meta")
    y = layer(torch.randn(2, 3, 20, device="meta"))
    assert y.is_meta
    assert y.shape == (2, 3, 12)


@pytest.mark.parametrize("backend", ["auto", "dense", "reference"])
def test_change_of_dtype(backend: str) -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.2, backend=backend)
    layer(torch.randn(3, 20)).sum().backward()
    for dtype in (torch.float64, torch.bfloat16, torch.float32):
        layer.to(dtype)
        assert layer.values.dtype == dtype
        assert layer.offsets.dtype == torch.int32
        assert layer.requested_sparsity == 0.2
        x = torch.randn(3, 20, dtype=dtype)
        y, eps = layer(x), torch.finfo(dtype).eps
        expected = F.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(y, expected, rtol=8 * eps, atol=8 * eps)


def test_autocast() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.5)
    x = torch.randn(3, 20)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        y.sum().backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.05)
    assert layer.values.grad is not None
    assert layer.values.grad.dtype == torch.float32


def test_inference_mode() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.5)
    x = torch.randn(3, 20)
    with torch.inference_mode():
        y = layer(x)
    assert y.is_inference()
    assert torch.equal(y, layer(x))


def test_inputs_of_any_strides() -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.5)
    x = torch.randn(20, 5, 3)
    y = layer(x.permute(2, 1, 0))
    assert y.shape == (3, 5, 12)
    torch.testing.assert_close(y, layer(x.permute(2, 1, 0).contiguous()))
    assert_linear(layer, torch.randn(20)[None].expand(7, 20))


@pytest.mark.parametrize("backend", ["auto", "dense", "reference"])
def test_training_follows_the_dense_layer_step_by_step(backend: str) -> None:
    layer = DiagonalLinear(20, 12, sparsity=0.5, backend=backend, dtype=torch.float64)
    values = layer.values.detach().clone().requires_grad_()
    assert layer.bias is not None
    bias = layer.bias.detach().clone().requires_grad_()
    x, target = torch.randn(64, 20).double(), torch.randn(64, 12).double()
    ours = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
    theirs = torch.optim.SGD([values, bias], lr=0.5, momentum=0.9)
    losses = []
    for _ in range(20):
        weight = dd.diagonal_to_dense(values, layer.offsets, out_features=12, in_features=20)
        for optimizer, y in ((ours, layer(x)), (theirs, F.linear(x, weight, bias))):
            optimizer.zero_grad()
            loss = F.mse_loss(y, target)
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    torch.testing.assert_close(layer.values, values)
    torch.testing.assert_close(layer.bias, bias)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("backend", ["auto", "dense"])
def test_a_learnable_task_is_learned(backend: str) -> None:
    teacher = DiagonalLinear(16, 16, offsets=[0, 5], bias=False)
    student = DiagonalLinear(16, 16, offsets=[0, 5], bias=False, backend=backend)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1)
    x = torch.randn(128, 16)
    with torch.no_grad():
        target = teacher(x)
    first = float(F.mse_loss(student(x), target).detach())
    for _ in range(100):
        optimizer.zero_grad()
        loss = F.mse_loss(student(x), target)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01 * first


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")
def test_one_graph_when_compiled() -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model = nn.Sequential(
        DiagonalLinear(20, 40, sparsity=0.8), nn.ReLU(), DiagonalLinear(40, 12, sparsity=0.8)
    )
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        x = torch.randn(6, 20)
        torch.testing.assert_close(compiled(x), model(x))
        compiled(x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert counter.frame_count == 1


def test_pruned_values_are_used() -> None:
    layer = DiagonalLinear(8, 6, sparsity=0.5)
    x = torch.randn(3, 8)
    prune.custom_from_mask(layer, "values", (torch.arange(24) % 2).reshape(4, 6))
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    assert (layer.weight == 0).sum() >= 36
