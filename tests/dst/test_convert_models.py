"""Conversion of the models of timm and transformers, built small and without a network."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from dynadiag.dst.convert import convert_
from dynadiag.dst.groups import param_groups
from dynadiag.dst.plan import Plan, plan
from dynadiag.dst.split import SplitLinear
from dynadiag.nn import SparseLinear

from ..torchvision_names import import_torchvision

METHODS = ["dynadiag", "static", "rigl"]
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TOKENS = torch.arange(16).view(2, 8)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    import_torchvision()
    module: ModuleType = pytest.importorskip("timm")
    return module


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    import_torchvision()
    module: ModuleType = pytest.importorskip("transformers")
    return module


def timm_vit(timm: ModuleType) -> nn.Module:
    model: nn.Module = timm.models.VisionTransformer(
        img_size=16, patch_size=4, embed_dim=48, depth=1, num_heads=3, num_classes=10
    )
    return model


def timm_mixer(timm: ModuleType) -> nn.Module:
    model: nn.Module = timm.models.MlpMixer(
        img_size=16, patch_size=4, embed_dim=48, num_blocks=1, num_classes=10
    )
    nn.init.normal_(model.get_parameter("head.weight"))  # zero at first, which stops all gradients
    return model


def gpt2(transformers: ModuleType) -> nn.Module:
    config = transformers.GPT2Config(
        n_layer=1, n_head=2, n_embd=64, n_positions=8, vocab_size=96, bos_token_id=0, eos_token_id=0
    )
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


def hf_vit(transformers: ModuleType) -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=48,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=96,
        image_size=16,
        patch_size=4,
    )
    model: nn.Module = transformers.ViTForImageClassification(config)
    return model


def steps(model: nn.Module, planned: Plan, *inputs: Tensor) -> None:
    """Convert and take a step: every converted layer is sparse as planned, and learns."""
    convert_(model, planned)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, SparseLinear)}
    assert len(layers) == sum(row.parts for row in planned.converted)
    assert sum(int(m.weight.count_nonzero()) for m in layers.values()) == planned.weights
    optimizer = torch.optim.AdamW(param_groups(model, 0.05), lr=1e-2)
    before = output(model, *inputs)
    before.square().mean().backward()
    optimizer.step()
    for name, layer in layers.items():
        gradient = layer.values.grad
        assert gradient is not None, name
        assert gradient.any(), name
    assert not torch.equal(output(model.eval(), *inputs), before)


def output(model: nn.Module, *inputs: Tensor) -> Tensor:
    found: Any = model(*inputs)
    y: Tensor = found if isinstance(found, Tensor) else found.logits
    return y


@pytest.mark.parametrize("method", METHODS)
def test_the_vit_of_timm(timm: ModuleType, method: str) -> None:
    model = timm_vit(timm)
    planned = plan(model, sparsity=0.8, method=method, exclude=["head", "patch_embed"])
    steps(model, planned, IMAGES)
    assert isinstance(model.get_submodule("blocks.0.attn.qkv"), SplitLinear)
    assert type(model.get_submodule("head")) is nn.Linear


@pytest.mark.parametrize("method", METHODS)
def test_the_mixer_of_timm(timm: ModuleType, method: str) -> None:
    model = timm_mixer(timm)
    planned = plan(model, sparsity=0.8, method=method, exclude="head", example=IMAGES)
    asked = {row.name.removeprefix("blocks.0."): row.asked for row in planned.converted}
    # Token mixing sees 48 channels a sample, channel mixing 16 patches.
    ratio = (1 - asked["mlp_tokens.fc1"]) / (1 - asked["mlp_channels.fc1"])
    assert ratio == pytest.approx(48 / 16)
    steps(model, planned, IMAGES)


@pytest.mark.parametrize("method", METHODS)
def test_gpt2_of_transformers(transformers: ModuleType, method: str) -> None:
    model = gpt2(transformers)
    planned = plan(model, sparsity=0.8, method=method, example={"input_ids": TOKENS})
    skipped = {row.name: row.skipped for row in planned.layers if row.skipped}
    assert skipped == {"lm_head": "its weight is tied to transformer.wte.weight"}
    sizes = {
        row.name.rpartition("h.0.")[2]: (row.out_features, row.in_features, row.parts)
        for row in planned.converted
    }
    assert sizes == {
        "attn.c_attn": (192, 64, 3),
        "attn.c_proj": (64, 64, 1),
        "mlp.c_fc": (256, 64, 1),
        "mlp.c_proj": (64, 256, 1),
    }
    steps(model, planned, TOKENS)
    assert model.get_parameter("lm_head.weight") is model.get_parameter("transformer.wte.weight")


@pytest.mark.parametrize("method", METHODS)
def test_the_vit_of_transformers(transformers: ModuleType, method: str) -> None:
    model = hf_vit(transformers)
    planned = plan(model, sparsity=0.8, method=method, exclude="classifier")
    assert len(planned.converted) == 6
    steps(model, planned, IMAGES)


def test_timm_and_we_decay_the_same_parameters(timm: ModuleType) -> None:
    model = convert_(timm_vit(timm), sparsity=0.8)
    named = cast("Callable[[], set[str]]", model.no_weight_decay)()
    optim = importlib.import_module("timm.optim")
    theirs = optim.param_groups_weight_decay(model, 0.05, no_weight_decay_list=named)
    assert decayed(theirs) == decayed(param_groups(model, 0.05))
    assert "cls_token" in named


def decayed(groups: list[dict[str, Any]]) -> set[int]:
    return {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
