"""What two processes do together for `test_distributed.py`; in a module that they can import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.ranks import check_ranks
from dynadiag.dst.scheduler import Scheduler
from dynadiag.nn.sharded import full

from .trainings import get_topology, make_batch, make_model, make_optimizer, train

RANKS = 2
STEPS = 10
OPTIONS: dict[str, dict[str, Any]] = {"dynadiag": {"learn_alpha": True}}
SCENARIOS = [
    *(("ddp", method) for method in ("dynadiag", "rigl", "set", "mest")),
    *(("fsdp", method) for method in ("dynadiag", "rigl")),
]


def run_ranks(folder: Path) -> list[dict[Any, Any]]:
    """Run all scenarios in two processes and return what each of them saw."""
    spawn(_work, args=(str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def train_alone(method: str) -> dict[str, Any]:
    """The same training in this process, on the batches of both ranks at once."""
    return _train(_model(method), None)


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    wrap = {"ddp": _replicated, "fsdp": _sharded}
    seen: dict[Any, Any] = {"error": _diverge(rank)}
    for wrapper, method in SCENARIOS:
        model = wrap[wrapper](_model(method))
        torch.manual_seed(rank)  # nothing from here on may depend on it
        seen[wrapper, method] = _train(model, rank)
    torch.save(seen, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _model(method: str) -> nn.Module:
    """In float64, where sums over one batch and over two halves hardly differ."""
    return make_model(method, **OPTIONS.get(method, {})).double()


def _replicated(model: nn.Module) -> nn.Module:
    # Sending the masks from rank 0 before every forward would hide it if ranks disagreed.
    buffers = [name for name, _ in model.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, buffers)
    return DistributedDataParallel(model)


def _sharded(model: nn.Module) -> nn.Module:
    fully_shard(model.get_submodule("2"))  # a group of its own, the rest together
    fully_shard(model)
    return model


def _train(model: nn.Module, rank: int | None) -> dict[str, Any]:
    def loss(model: nn.Module, step: int) -> Tensor:
        x, labels = make_batch(step)
        own = slice(None) if rank is None else slice(rank, None, RANKS)
        return nn.functional.cross_entropy(model(x[own].double()), labels[own])

    optimizer = make_optimizer(model)
    scheduler = Scheduler(model, optimizer, total_steps=STEPS)
    paths = []
    for step in range(STEPS):
        train(model, optimizer, scheduler, range(step, step + 1), loss)
        paths.append(get_topology(model))
        check_ranks(model)
    layers = dynamic_layers(model)
    return {
        "state": scheduler.state_dict(),
        "paths": paths,
        "values": {name: full(layer.values).clone() for name, layer in layers.items()},
        "moments": {
            name: full(optimizer.state[layer.values]["exp_avg"]).clone()
            for name, layer in layers.items()
        },
    }


def _diverge(rank: int) -> str:
    model = make_model("set")
    layer = dynamic_layers(model)["2"]
    if rank == 1:
        layer.set_active(layer.active().flip(0))
    try:
        check_ranks(model)
    except RuntimeError as error:
        return str(error)
    return ""
