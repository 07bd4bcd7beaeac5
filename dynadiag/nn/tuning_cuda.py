"""The search among ways on CUDA: what fails or disagrees is left out, the rest is timed cold."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

# Of the largest output; wide enough for another order of summation, far below a wrong result.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
_TOLERANCE_16_BIT = 5e-2
_LEAST_FLUSH = 128 * 2**20  # bytes; long enough to write that a launch hides behind it


def sift(
    ways: Mapping[str, Callable[[], Tensor]],
) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    """Return the ways that work and agree with the first that does, and why others do not.

    Comparing is no formality: cuSPARSELt and Triton's block product have returned wrong results
    for some parameters (PyTorch issues 155333 and 113587), and a search for speed finds those.

    Raises:
        RuntimeError: no way works, or a CUDA graph is being captured, where none can be tried.
    """
    refuse_capture()
    working: dict[str, Callable[[], Tensor]] = {}
    left_out: dict[str, str] = {}
    expected: Tensor | None = None
    for name, way in ways.items():
        try:
            result = way()
            expected = result if expected is None else expected
            wrong = _disagreement(result, expected)
        except RuntimeError as error:
            wrong = str(error).partition("\n")[0]
        if wrong is None:
            working[name] = way
        else:
            left_out[name] = wrong
    if not working:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise RuntimeError(f"no way to compute this works here: {reasons}")
    return working, left_out


def refuse_capture() -> None:
    """Raise RuntimeError while a CUDA graph is captured, where nothing can be measured."""
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            "the ways to compute this size are not measured yet, which cannot be done while a "
            "CUDA graph is captured; call the layer once before, forward and backward if both are"
        )


def _disagreement(result: Tensor, expected: Tensor) -> str | None:
    allowed = _TOLERANCE.get(expected.dtype, _TOLERANCE_16_BIT)
    scale = float(expected.nan_to_num().abs().max())
    same = torch.allclose(result, expected, rtol=0, atol=allowed * scale, equal_nan=True)
    return None if same else "its result differs from that of the other ways"


class ColdTimer:
    """Seconds of one call with nothing in the L2 cache, by CUDA events.

    The buffer that is written to empty the cache also keeps the device busy while the host
    prepares the call, so that a way is not judged by its launch.
    """

    def __init__(self, device: torch.device) -> None:
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        size = max(2 * cache, _LEAST_FLUSH)
        self._flush = torch.empty(size, dtype=torch.uint8, device=device)

    def __call__(self, call: Callable[[], Tensor]) -> float:
        """Run and time one call."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3
