"""What a run measures with: the device, what is known about it, and what watches over it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from dynadiag.bench.energy import EnergyMeter
from dynadiag.bench.environment import device_slug, header, refuse_blocking
from dynadiag.bench.nvml import NullNvml, Nvml
from dynadiag.bench.selfcheck import self_checks
from dynadiag.bench.selfcheck_cuda import self_checks_cuda
from dynadiag.bench.thermal import warm_up
from dynadiag.bench.watch import Seen, watched, why_busy
from dynadiag.kernels.cpu import build
from dynadiag.kernels.cuda import compiler
from dynadiag.kernels.cuda.device import Device
from dynadiag.kernels.cuda.launcher import CupyLauncher, Launcher
from dynadiag.kernels.cuda.variants import SHARED_RATE

from .arms import DEVICES
from .cases import CaseError

AUTO = "auto"
# Of shared_rate.cu: threads of a block, 16-byte reads of a thread a round, and its tile.
SHARED_BLOCK, SHARED_READS, SHARED_TILE = 1024, 8, 16 * 1024
T = TypeVar("T")


def device_of(name: str) -> str:
    """Return the device that `auto` or a name stands for.

    Raises:
        CaseError: the name is unknown, or torch sees no such device.
    """
    available = torch.cuda.is_available()
    if name == AUTO:
        return "cuda" if available else "cpu"
    if name not in DEVICES:
        raise CaseError(f"unknown device {name!r}; known: {', '.join((AUTO, *DEVICES))}")
    if name == "cuda" and not available:
        raise CaseError("device cuda: torch sees no CUDA device; leave --device out for the CPU")
    return name


@dataclass(frozen=True)
class Equipment:
    """The device that is measured; the CPU needs no watching.

    Attributes:
        device: ``cpu`` or ``cuda``.
    """

    device: str

    @functools.cached_property
    def nvml(self) -> Nvml:
        """What the driver tells about the card."""
        return Nvml.open() if self.device == "cuda" else NullNvml("the CPU is measured")

    @property
    def slug(self) -> str:
        """A name for folders."""
        return device_slug(self.device)

    def why_not(self, environ: Mapping[str, str], *, allow_shared: bool = False) -> str | None:
        """Return why times taken now would mean nothing, or None.

        Args:
            environ: variables of this process.
            allow_shared: whether others may use the card meanwhile.
        """
        if self.device != "cuda":
            return None
        try:
            refuse_blocking(environ)
        except ValueError as error:
            return str(error)
        busy = None if allow_shared else why_busy(self.nvml)
        return busy and f"{busy}; --allow-shared measures all the same"

    def header(self, mode: str, seed: int) -> dict[str, Any]:
        """Return the header of a run that starts now."""
        source_hash = compiler.source_hash if self.device == "cuda" else build.source_hash
        return header(mode=mode, seed=seed, device=self.device) | {"kernel_hash": source_hash()}

    def self_checks(self) -> dict[str, Any]:
        """Measure ceilings, on a card that has reached its working temperature."""
        if self.device != "cuda":
            return self_checks()
        warm = warm_up(self.nvml)
        return self_checks_cuda(shared_reads(CupyLauncher())) | {"warm_up": warm}

    def meter(self) -> EnergyMeter:
        """Return what counts the joules of the device."""
        if self.device != "cuda":
            return EnergyMeter.open()
        return EnergyMeter.open(device=self.device, nvml=self.nvml)

    def watched(self, measure: Callable[[], T]) -> tuple[T, Seen]:
        """Measure, again where heat slowed the device meanwhile, and say what was seen."""
        if self.device != "cuda":
            return measure(), Seen((), {})
        return watched(self.nvml, measure)


def shared_reads(launcher: Launcher) -> Callable[[int], int]:
    """Return what keeps the shared memory of the whole card busy for some rounds.

    It queues the kernel and returns the bytes that kernel reads.
    """
    card = Device.of(torch.cuda.current_device())
    blocks = card.sms * (card.threads_per_sm // SHARED_BLOCK)
    out = torch.empty(blocks * SHARED_BLOCK, device="cuda")

    def read(rounds: int) -> int:
        launcher.launch(SHARED_RATE, (blocks, 1, 1), SHARED_BLOCK, SHARED_TILE, (out, rounds))
        return rounds * SHARED_READS * 16 * out.numel()

    return read
