"""Whether all processes of a distributed training hold the same topology."""

from __future__ import annotations

import hashlib

import torch.distributed as dist
from torch import Tensor, nn

from .layers import dynamic_layers


def check_ranks(model: nn.Module) -> None:
    """Raise unless every rank has the same active units in every dynamic layer.

    All ranks of the default process group must call it together; without one it does nothing.
    It sends a few bytes a layer and reads every topology back to the CPU: a check for every few
    hundred steps, not for each.

    Raises:
        RuntimeError: on all ranks alike, naming the first layer and the ranks that differ.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    own = {name: _digest(layer.active()) for name, layer in dynamic_layers(model).items()}
    every: list[dict[str, str]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(every, own)
    first = every[0]
    for name in dict.fromkeys(name for digests in every for name in digests):
        other = [rank for rank, digests in enumerate(every) if digests.get(name) != first.get(name)]
        if other:
            raise RuntimeError(
                f"the topology of {name} on ranks {other} differs from that on rank 0; start all "
                "ranks from the same weights and Scheduler seed, and average gradients over them"
            )


def _digest(active: Tensor) -> str:
    return hashlib.blake2b(active.cpu().numpy().tobytes(), digest_size=16).hexdigest()
