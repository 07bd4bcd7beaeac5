"""The faults of kernels/cpu/planted.h: each build flag plants its own, and no flag none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from dynadiag import kernels

RESULT = 4 * 64 * 512  # bytes of y, and of the gradient
MEASURE = """
import json, time, torch
from dynadiag import kernels
from dynadiag.bench.memory import peak_bytes
torch.set_num_threads(1)
torch.manual_seed(0)
cpu, reference = kernels.get("cpu"), kernels.get("reference")
assert cpu.unavailable() is None
x, values, offsets = torch.randn(64, 512), torch.randn(64, 512), torch.arange(64, dtype=torch.int32)
calls = [
    lambda backend: backend.forward(x, values, offsets, None, 512),
    lambda backend: backend.grad_values(x, x, offsets),
]
wrong = [int(((c(cpu) - c(reference)).abs() > 1e-2).sum()) for c in calls]
peaks = [peak_bytes(lambda: c(cpu)).bytes for c in calls]
seconds = []
for _ in range(200):
    start = time.perf_counter()
    calls[0](cpu)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"wrong": wrong, "peaks": peaks, "seconds": min(seconds)}))
"""


def built_with(flags: str, cache: Path) -> dict[str, Any]:
    environment = {"DYNADIAG_CXXFLAGS": flags, "DYNADIAG_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURE],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_every_flag_plants_its_fault_and_no_other(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        reason = kernels.get("cpu").unavailable()
    if reason is not None:
        pytest.skip(reason)
    sound = built_with("", tmp_path)
    slow = built_with("-DDYNADIAG_PLANTED_SLOWDOWN=200", tmp_path)
    wrong = built_with("-DDYNADIAG_PLANTED_ERROR", tmp_path)
    larger = built_with("-DDYNADIAG_PLANTED_ALLOCATION", tmp_path)
    assert sound["wrong"] == slow["wrong"] == larger["wrong"] == [0, 0]
    assert wrong["wrong"] == [1, 1]
    assert sound["peaks"] == slow["peaks"]
    assert all(
        more > peak + RESULT / 2 for more, peak in zip(larger["peaks"], sound["peaks"], strict=True)
    )
    assert slow["seconds"] > 2 * max(sound["seconds"], wrong["seconds"], larger["seconds"])
