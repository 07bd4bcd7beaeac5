"""Wrapped diagonals: how many there are, which matrix cells they cover, how sparse they leave it.

The convention of the published code (arXiv 2506.11449, appendix A). A matrix W of M = out_features
rows and N = in_features columns has P = max(M, N) candidate diagonals, each of length
D = min(M, N), which together cover every cell once:

- M >= N: diagonal s holds W[(c + s) mod M, c], c = 0 .. N-1;
- M < N:  diagonal s holds W[r, (r + s) mod N], r = 0 .. M-1.

Transposing a matrix keeps the offset and the values of each of its diagonals.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_features(in_features: int, out_features: int) -> None:
    """Raise ValueError unless both sizes are at least 1."""
    for name, size in (("in_features", in_features), ("out_features", out_features)):
        if size < 1:
            raise ValueError(f"{name} is {size}, but must be at least 1; pass a positive size")


def check_sparsity(sparsity: float) -> None:
    """Raise ValueError unless the share of zeros lies in [0, 1)."""
    if not 0 <= sparsity < 1:
        raise ValueError(
            f"sparsity is {sparsity}, but must lie in [0, 1); pass the share of zeros, such as 0.9"
        )


def num_candidates(out_features: int, in_features: int) -> int:
    """Return P = max(M, N), the number of diagonals there are to choose from."""
    check_features(in_features, out_features)
    return max(out_features, in_features)


def diagonal_length(out_features: int, in_features: int) -> int:
    """Return D = min(M, N), the number of values on each diagonal."""
    check_features(in_features, out_features)
    return min(out_features, in_features)


def num_diagonals(out_features: int, in_features: int, sparsity: float) -> int:
    """Return K = (1 - sparsity) P, rounded to nearest and at least 1.

    Raises:
        ValueError: a size is below 1, or sparsity lies outside [0, 1).
    """
    check_sparsity(sparsity)
    return max(1, round((1 - sparsity) * num_candidates(out_features, in_features)))


def achieved_sparsity(out_features: int, in_features: int, num_diagonals: int) -> float:
    """Return 1 - K / P, the share of zeros that K diagonals leave."""
    return 1 - num_diagonals / num_candidates(out_features, in_features)


def check_num_diagonals(out_features: int, in_features: int, num_diagonals: int) -> None:
    """Raise ValueError unless 1 <= K <= P."""
    candidates = num_candidates(out_features, in_features)
    if isinstance(num_diagonals, float):
        raise TypeError(f"num_diagonals is {num_diagonals}, but counts diagonals; pass an integer")
    if not 1 <= num_diagonals <= candidates:
        raise ValueError(
            f"num_diagonals is {num_diagonals}, but a matrix of {out_features} x {in_features} has "
            f"{candidates} diagonals; pass 1 to {candidates}"
        )


def check_offsets(offsets: Tensor, out_features: int, in_features: int) -> None:
    """Raise ValueError unless offsets are one-dimensional, distinct and within [0, P).

    Reads the offsets, so a CUDA tensor is waited for.
    """
    candidates = num_candidates(out_features, in_features)
    if offsets.ndim != 1:
        raise ValueError(f"offsets have shape {tuple(offsets.shape)}, but must be one list (K,)")
    check_num_diagonals(out_features, in_features, len(offsets))
    seen: set[int] = set()
    for offset in offsets.tolist():
        if not 0 <= offset < candidates:
            raise ValueError(
                f"offset {offset} is outside [0, {candidates}), the candidate diagonals of a "
                f"{out_features} x {in_features} matrix; take it modulo {candidates}"
            )
        if offset in seen:
            raise ValueError(f"offset {offset} is given twice; each diagonal may appear once")
        seen.add(offset)


def as_offsets(offsets: Sequence[int] | Tensor, out_features: int, in_features: int) -> Tensor:
    """Return checked offsets as an int32 tensor (K,), in the order given."""
    given = offsets if isinstance(offsets, Tensor) else torch.tensor(offsets, device="cpu")
    if given.numel() == 0:
        raise ValueError("offsets are empty, but a matrix needs at least one diagonal")
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise TypeError(f"offsets are {given.dtype}, but name diagonals; pass integers")
    check_offsets(given, out_features, in_features)
    return given.to(torch.int32)


def cells(offsets: Tensor, out_features: int, in_features: int) -> tuple[Tensor, Tensor]:
    """Return the cells that diagonals cover.

    Args:
        offsets: (K,) integers in [0, P).
        out_features: M, the rows.
        in_features: N, the columns.

    Returns:
        (rows, columns), both (K, D) int64: values[k, j] stands at (rows[k, j], columns[k, j]).
    """
    along = torch.arange(diagonal_length(out_features, in_features), device=offsets.device)
    shifted = along + offsets.long().unsqueeze(1)
    fixed = along.expand_as(shifted)
    if out_features >= in_features:
        return shifted.remainder(out_features), fixed
    return fixed, shifted.remainder(in_features)
