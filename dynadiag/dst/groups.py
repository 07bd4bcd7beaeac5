"""Which parameters an optimizer decays."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..nn.base import SparseLinear


def param_groups(
    model: nn.Module, weight_decay: float, *, alpha_lr: float | None = None
) -> list[dict[str, Any]]:
    """Return the trainable parameters of a model in groups for any optimizer of torch's kind.

    Decayed are weights, whatever the shape in which a sparse layer stores them. Not decayed are
    alpha, biases and everything else of one dimension, parameters marked `_no_weight_decay`, and
    those that the model's own `no_weight_decay()` names, as the models of timm have it.

    On the CPU each group asks for the fused step of the optimizers that have one: while diagonals
    are chosen the values of all candidates are parameters, most of whose moments are zeros, and
    there AdamW's plain step took 27 of the 54 ms of a step of a 768 to 3072 to 768 block of 90 %
    sparsity (batch 197, one AVX-512 core), the fused one 5. Optimizers without one do not
    look; for one made with `differentiable=True`, which refuses, delete `fused` from the groups.

    Args:
        model: converted or not.
        weight_decay: of the first group.
        alpha_lr: learning rate of alpha, as of the start of the training; None for the optimizer's.

    Returns:
        The groups that are not empty: decayed, not decayed, alpha.
    """
    sparse = [module for module in model.modules() if isinstance(module, SparseLinear)]
    stored = {id(layer.values) for layer in sparse}
    alphas = {id(layer.alpha) for layer in sparse if "alpha" in layer._parameters}
    named: set[str] = getattr(model, "no_weight_decay", set)()
    decayed, spared, alpha = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in alphas:
            alpha.append(parameter)
        elif id(parameter) in stored:
            decayed.append(parameter)
        elif parameter.ndim <= 1 or name in named or hasattr(parameter, "_no_weight_decay"):
            spared.append(parameter)
        else:
            decayed.append(parameter)
    rate = {} if alpha_lr is None else {"lr": alpha_lr}
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
        {"params": alpha, "weight_decay": 0.0, **rate},
    ]
    return [{**group, **_fused(group["params"])} for group in groups if group["params"]]


def _fused(parameters: list[nn.Parameter]) -> dict[str, bool]:
    able = all(p.device.type == "cpu" and p.is_floating_point() for p in parameters)
    return {"fused": True} if able else {}
