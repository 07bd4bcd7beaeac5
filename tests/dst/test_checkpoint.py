from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, distributed, nn

from dynadiag.dst.checkpoint import FORMAT, load_, save
from dynadiag.dst.convert import convert_
from dynadiag.dst.freeze import freeze_
from dynadiag.dst.registry import methods
from dynadiag.dst.schedules import Cosine
from dynadiag.nn import (
    BlockLinear,
    CondensedLinear,
    CSRLinear,
    DiagonalLinear,
    DiaUstLinear,
    DynamicDiagonalLinear,
    NMLinear,
    SparseLinear,
)

SPARSE = [name for name in methods() if name != "dense"]


class Net(nn.Module):
    """Has a fused q, k, v layer, a layer norm, and a head that is tied to the embedding."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(3 * width, width, bias=False)
        self.head = nn.Linear(width, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.out(self.qkv(self.norm(self.embed(tokens))).relu()))
        return y


TOKENS = torch.arange(11)


def net(seed: int = 0, width: int = 32) -> Net:
    torch.manual_seed(seed)
    return Net(width)


def converted(
    method: str = "dynadiag", sparsity: float = 0.75, seed: int = 0, **options: Any
) -> Net:
    model = net(seed)
    convert_(model, sparsity=sparsity, method=method, **options)
    return model


def assert_same(model: nn.Module, other: nn.Module) -> None:
    kinds = [type(module) for module in model.modules()]
    assert [type(module) for module in other.modules()] == kinds
    theirs = other.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert torch.equal(model(TOKENS), other(TOKENS))


def snapshot(model: nn.Module) -> tuple[list[nn.Module], dict[str, Tensor]]:
    return list(model.modules()), {name: t.clone() for name, t in model.state_dict().items()}


def assert_untouched(model: nn.Module, before: tuple[list[nn.Module], dict[str, Tensor]]) -> None:
    modules, state = before
    assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize("method", SPARSE)
def test_a_dense_model_becomes_what_was_saved(method: str, tmp_path: Path) -> None:
    model = converted(method)
    save(model, tmp_path / "m")
    loaded = load_(net(1), tmp_path / "m")
    assert_same(loaded, model)
    ruling = [getattr(layer, "method", None) for layer in model.modules()]
    assert [getattr(layer, "method", None) for layer in loaded.modules()] == ruling
    freeze_(model)
    save(model, tmp_path / "m")
    assert_same(load_(net(1), tmp_path / "m"), model)


def test_a_model_of_the_same_plan_keeps_its_parameters(tmp_path: Path) -> None:
    model, other = converted(), converted(seed=1)
    parameters = list(other.parameters())
    save(model, tmp_path / "m")
    load_(other, tmp_path / "m")
    assert_same(other, model)
    assert all(a is b for a, b in zip(other.parameters(), parameters, strict=True))


def test_the_phase_of_the_training_comes_back(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "selection": "khot",
        "temperature": Cosine(0.1, 0.01),
        "sparsity_schedule": "linear",
        "initial_sparsity": 0.5,
    }
    model = converted("dynadiag", **options)
    for layer in (layer for layer in model.modules() if isinstance(layer, DynamicDiagonalLinear)):
        layer.set_num_active(layer.num_diagonals + 1)
        layer.set_temperature(0.03)
    save(model, tmp_path / "m")
    assert_same(load_(net(1), tmp_path / "m"), model)
    assert_same(load_(converted("dynadiag", **options), tmp_path / "m"), model)


def test_layers_made_by_hand(tmp_path: Path) -> None:
    def dense() -> nn.Sequential:
        return nn.Sequential(*(nn.Linear(32, 32) for _ in range(6)))

    torch.manual_seed(0)
    model = nn.Sequential(
        DynamicDiagonalLinear(32, 32, sparsity=0.8, selection="khot", temperature=0.5),
        DiagonalLinear(32, 32, sparsity=0.77),
        CSRLinear(32, 32, sparsity=0.9),
        CondensedLinear(32, 32, sparsity=0.6),
        NMLinear(32, 32, n=2, m=8),
        BlockLinear(32, 32, sparsity=0.75, block=8),
    )
    save(model, tmp_path / "m")
    loaded = load_(dense(), tmp_path / "m")
    x = torch.randn(4, 32)
    assert torch.equal(loaded(x), model(x))
    assert isinstance(loaded, nn.Sequential)
    for mine, theirs in zip(loaded, model, strict=True):
        assert isinstance(mine, SparseLinear)
        assert isinstance(theirs, SparseLinear)
        assert mine.requested_sparsity == theirs.requested_sparsity


def test_a_model_that_is_a_sparse_layer(tmp_path: Path) -> None:
    model, other = (DiagonalLinear(6, 4, num_diagonals=2) for _ in range(2))
    save(model, tmp_path / "m")
    x = torch.randn(3, 6)
    assert torch.equal(load_(other, tmp_path / "m")(x), model(x))


def test_a_dense_model_is_written_and_read_too(tmp_path: Path) -> None:
    save(net(), tmp_path / "m")
    assert_same(load_(net(1), tmp_path / "m"), net())


def test_what_belongs_to_the_model_stays(tmp_path: Path) -> None:
    model = freeze_(converted())
    save(model, tmp_path / "m")
    target = net(1).double().eval()
    target.qkv.weight.requires_grad_(False)
    load_(target, tmp_path / "m")
    assert {p.dtype for p in target.parameters()} == {torch.float64}
    assert not any(module.training for module in target.modules())
    frozen = {name for name, p in target.named_parameters() if not p.requires_grad}
    assert frozen == {f"qkv.parts.{part}.values" for part in range(3)}
    torch.testing.assert_close(target(TOKENS).float(), model(TOKENS))


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    save(converted(), tmp_path / "m")
    target = net(1)
    before = torch.get_rng_state()
    load_(target, tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), before)


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    model = converted()
    save(model, tmp_path / "m")
    stored = safetensors.torch.load_file(tmp_path / "m")
    assert set(model.state_dict()) - set(stored) == {"head.weight"}
    untied = net(1)
    untied.head.weight = nn.Parameter(untied.head.weight.detach().clone())
    assert torch.equal(load_(untied, tmp_path / "m")(TOKENS), model(TOKENS))


def test_two_tensors_do_not_fit_a_tied_one(tmp_path: Path) -> None:
    untied = net()
    untied.head.weight = nn.Parameter(torch.zeros(11, 32))
    save(untied, tmp_path / "m")
    target = net(1)
    before = snapshot(target)
    with pytest.raises(ValueError, match=r"tied in the model.*head\.weight and embed\.weight"):
        load_(target, tmp_path / "m")
    assert_untouched(target, before)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: converted(sparsity=0.5), r"another plan: layer qkv has structure .*the same plan"),
        (lambda: converted("rigl"), "layer qkv has class Dynamic.* file, Masked.* in the model"),
        (lambda: converted(drop=0.1), "layer qkv has method .* in the file, .* in the model"),
        (lambda: freeze_(converted()), "layer qkv has class Dynamic.* in the file, Diag"),
        (lambda: converted(split={}), "layer qkv has class Split.* in the file, Dynamic"),
        (lambda: converted(exclude="out"), "layer out has class .*, nn.Linear in the model"),
        (lambda: net(width=16), r"layer 'qkv'.* 96 x 32.*48 x 16"),
        (lambda: nn.Sequential(nn.Linear(32, 96)), "layer 'qkv'.*has no linear layer there"),
        (lambda: nn.Linear(32, 96), "layer 'qkv'.*has no linear layer there"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    target: Any, message: str, tmp_path: Path
) -> None:
    save(converted(), tmp_path / "m")
    model = target()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        load_(model, tmp_path / "m")
    assert_untouched(model, before)


def test_a_dense_file_does_not_fit_a_sparse_model(tmp_path: Path) -> None:
    save(net(), tmp_path / "m")
    with pytest.raises(ValueError, match=r"layer qkv has class nn\.Linear in the file"):
        load_(converted(), tmp_path / "m")


def test_other_tensors_that_do_not_fit(tmp_path: Path) -> None:
    save(converted(), tmp_path / "m")
    target = net(1)
    target.norm = nn.LayerNorm(32, elementwise_affine=False)
    target.register_buffer("mean", torch.zeros(3))
    target.embed = nn.Embedding(12, 32)
    before = snapshot(target)
    message = (
        r"lacks mean; the model has no norm\.bias, norm\.weight; "
        r"it holds another shape of embed\.weight \(11, 32\) instead of \(12, 32\)"
    )
    with pytest.raises(ValueError, match=message):
        load_(target, tmp_path / "m")
    assert_untouched(target, before)


def rewrite(path: Path, change: Any) -> None:
    """Have `change` alter the header and the tensors of a file."""
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["dynadiag"])
    tensors = safetensors.torch.load_file(path)
    change(header, tensors)
    safetensors.torch.save_file(tensors, path, {"dynadiag": json.dumps(header)})


def _newer(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    header["format"] = FORMAT + 1


def _unknown_class(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    header["layers"]["out"]["class"] = "SpiralLinear"


def _twice_the_same_offset(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    tensors["out.offsets"][:] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_newer, f"format {FORMAT + 1}, .*reads formats up to {FORMAT}; upgrade"),
        (_unknown_class, "no layer class 'SpiralLinear'; known are BlockLinear"),
        (_twice_the_same_offset, "damaged at layer out: .*offset 3 is given twice"),
    ],
)
def test_a_file_with_something_wrong_in_it(change: Any, message: str, tmp_path: Path) -> None:
    save(freeze_(converted()), tmp_path / "m")
    rewrite(tmp_path / "m", change)
    target = net(1)
    before = snapshot(target)
    with pytest.raises(ValueError, match=message):
        load_(target, tmp_path / "m")
    assert_untouched(target, before)


def test_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("some text")
    with pytest.raises(ValueError, match="text is no safetensors file"):
        load_(net(), tmp_path / "text")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match=r"other was not written by dynadiag\.save.*load_file"):
        load_(net(), tmp_path / "other")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "part", {"dynadiag": "{}"})
    with pytest.raises(ValueError, match="part is damaged: its metadata lacks"):
        load_(net(), tmp_path / "part")
    with pytest.raises(ValueError, match="is a folder; pass the file"):
        load_(net(), tmp_path)
    with pytest.raises(FileNotFoundError):
        load_(net(), tmp_path / "absent")


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(net(), tmp_path / "m")

    def full_disk(file: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save(net(1), tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert_same(load_(net(2), tmp_path / "m"), net())


@pytest.fixture
def _one_rank(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path}/store"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("_one_rank")
def test_sharded_parameters_are_written_whole(tmp_path: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    model = converted()
    whole = load_(converted(seed=1), _saved(model, tmp_path / "whole"))
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    fully_shard(model)
    assert_same(load_(net(1), _saved(model, tmp_path / "sharded")), whole)


def _saved(model: nn.Module, path: Path) -> Path:
    save(model, path)
    return path


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="class DiaUstLinear, only BlockLinear"):
        save(nn.Sequential(DiaUstLinear(8, 8, sparsity=0.5)), tmp_path / "m")

    class Counting(nn.Linear):
        def get_extra_state(self) -> int:
            return 3

    with pytest.raises(TypeError, match=r"0\._extra_state .* is a int"):
        save(nn.Sequential(Counting(2, 2)), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_safetensors_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for use in (save, load_):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'dynadiag\[train\]'"):
            use(net(), tmp_path / "m")
