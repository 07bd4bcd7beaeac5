"""What a qualification needs and does not find here."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dynadiag import kernels


def missing(device: str) -> str | None:
    """Return what this machine lacks, in one sentence that names the remedies, or None."""
    if device != "cuda":
        return None
    lacking = list(_lacking())
    return f"no card can be qualified here: {'; '.join(lacking)}" if lacking else None


def _lacking() -> Iterator[str]:
    if torch.version.cuda is None:
        yield f"torch {torch.__version__} is built without CUDA, install its CUDA build"
    if not torch.cuda.is_available():
        yield "torch sees no CUDA device"
        return
    reason = kernels.get("cuda").unavailable()
    if reason is not None:
        yield reason
