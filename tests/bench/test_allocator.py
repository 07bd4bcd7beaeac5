from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# One process each, as the setting lasts; 40 MB is above every threshold that glibc moves to.
SCRIPT = """
import resource, sys
import torch
from dynadiag.bench.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "keep":
    assert keep_freed_memory() == "kept"
for _ in range(30):  # until the heap has room for it between what stays
    torch.ones(10_000_000)
before = faults()
for _ in range(5):
    torch.ones(10_000_000)
print(faults() - before)
"""

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory"
)


def faults(mode: str) -> int:
    command = [sys.executable, "-c", SCRIPT, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    return int(done.stdout)


def test_large_blocks_pay_for_pages_once() -> None:
    assert faults("keep") < 100


def test_without_it_they_pay_at_every_allocation() -> None:
    assert faults("leave") > 5 * 1000
