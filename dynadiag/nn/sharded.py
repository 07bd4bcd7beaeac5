"""Parameters that FSDP2 spreads over ranks (DTensor), read and written as whole tensors."""

from __future__ import annotations

from torch import Tensor


def full(tensor: Tensor) -> Tensor:
    """Return the whole tensor, gathered from all ranks where it is a DTensor; without gradient.

    A plain tensor is returned as it is, its memory shared.
    """
    detached = tensor.detach()
    if not _is_sharded(detached):
        return detached
    whole: Tensor = detached.full_tensor()  # type: ignore[attr-defined]
    return whole


def assign_(target: Tensor, whole: Tensor) -> None:
    """Write a whole tensor, equal on every rank, into a plain one or a DTensor; no messages.

    Args:
        target: any shape; where it is a DTensor each rank keeps its part.
        whole: the same shape.
    """
    if _is_sharded(target):
        from torch.distributed.tensor import DTensor, Replicate  # takes half a second to import

        mesh = target.device_mesh  # type: ignore[attr-defined]
        copies = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
        whole = copies.redistribute(placements=target.placements)  # type: ignore[attr-defined]
    target.detach().copy_(whole)


def _is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")
