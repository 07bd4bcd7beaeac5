"""Which rows of the records make which columns of the frame."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """Which rows fill a column of the frame, and which of their fields it takes along."""

    metric: str
    stat: str | None = None
    baseline: str | None = None
    fields: tuple[str, ...] = ()


INTERVAL = ("ci_lo", "ci_hi", "n")
MEASURES = {
    "time": Measure("time", "median", fields=INTERVAL),
    "p05": Measure("time", "p05"),
    "p95": Measure("time", "p95"),
    "speedup": Measure("speedup", baseline="dense", fields=(*INTERVAL, "verdict")),
    "csr_speedup": Measure("speedup", baseline="csr", fields=(*INTERVAL, "verdict")),
    "cpu_speedup": Measure("speedup", baseline="diagonal_cpu"),
    "cuda_speedup": Measure("speedup", baseline="diagonal_cuda"),
    "gemm_speedup": Measure("speedup", baseline="diagonal_dense"),
    "weight_bytes": Measure("weight_bytes"),
    "peak_bytes": Measure("peak_bytes"),
    "error": Measure("error"),
    "peak_reserved": Measure("peak_reserved"),
    "device_used": Measure("device_used"),
    "energy": Measure("energy", "gross", fields=("ci_lo", "ci_hi", "reason")),
    "energy_net": Measure("energy", "net"),
    "power": Measure("power"),
    "sustained": Measure("time", "sustained"),
}
