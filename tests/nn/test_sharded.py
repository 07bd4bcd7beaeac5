from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, distributed, nn

from dynadiag.nn import DynamicDiagonalLinear, MaskedDenseLinear
from dynadiag.nn.sharded import assign_, full


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def shard(module: nn.Module) -> None:
    """Apply FSDP2, which warns of what it calls itself."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with warnings.catch_warnings(action="ignore"):
        fully_shard(module, mesh=init_device_mesh("cpu", (1,)))


def test_plain_tensors_are_what_they_are() -> None:
    tensor = torch.ones(3, requires_grad=True)
    assert full(tensor).data_ptr() == tensor.data_ptr()
    assert not full(tensor).requires_grad
    assign_(tensor, torch.arange(3.0))
    assert tensor.tolist() == [0, 1, 2]


def test_sharded_tensors_are_gathered_and_spread(one_rank: None) -> None:
    layer = nn.Linear(4, 3)
    shard(layer)
    assert hasattr(layer.weight, "full_tensor")
    assign_(layer.weight, torch.arange(12.0).view(3, 4))
    whole = full(layer.weight)
    assert type(whole) is Tensor
    assert torch.equal(whole, torch.arange(12.0).view(3, 4))


@pytest.mark.parametrize("kind", [DynamicDiagonalLinear, MaskedDenseLinear])
def test_a_sharded_layer_is_the_same_layer(
    one_rank: None, kind: type[DynamicDiagonalLinear | MaskedDenseLinear]
) -> None:
    torch.manual_seed(0)
    layer, other = kind(8, 6, sparsity=0.5), kind(8, 6, sparsity=0.5)
    other.load_state_dict(layer.state_dict())
    blocks = [nn.Sequential(each, nn.Softplus()) for each in (layer, other)]
    shard(blocks[1])
    x = torch.randn(5, 8)
    active = layer.active()
    following = active.flatten().roll(1).view_as(active)
    for each, block in zip((layer, other), blocks, strict=True):
        each.set_active(following)
        each.set_dense_gradient(True)
        torch.autograd.backward(block(x).square().sum())
    assert torch.equal(other.active(), following)
    assert torch.equal(other.strength(), layer.strength())
    torch.testing.assert_close(other.gradient_strength(), layer.gradient_strength())
    assert int((other.gradient_strength() > 0).sum()) == layer.units
    for each in (layer, other):
        each.mask_gradients()
        assert torch.equal(each.gradient_strength() > 0, following)
        torch.testing.assert_close(each.compact()(x), layer.compact()(x))
    torch.testing.assert_close(blocks[1](x), blocks[0](x))
