"""What the driver tells about one card, through NVML; nothing is ever set.

What the card, the driver or the permissions refuse is null, and `Nvml.support` says why.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch

_POWER_INSTANT = 186
_VGPU = 2
_CLOCKS = {"sm": 1, "mem": 2}

# Bits of nvmlDeviceGetCurrentClocksEventReasons.
REASONS = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
# Fields that count the nanoseconds for which a policy held the clocks down.
VIOLATIONS = {
    74: "power",
    75: "thermal",
    76: "sync_boost",
    77: "board_limit",
    78: "low_utilization",
    79: "reliability",
    80: "application_clocks",
    81: "base_clocks",
    269: "sw_thermal",
    270: "hw_thermal",
    271: "power_brake",
}
# The member of a field's value for each of NVML's value types, in their order.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


class Process(NamedTuple):
    """A process that computes on the card; in a container the pid may be one of the host."""

    pid: int
    bytes: int | None


class Nvml:
    """The queries of one card; each property asks the driver anew.

    Attributes:
        support: ``ok`` or the driver's refusal, for every query made so far.
        reason: why there is no card to ask; null here, a text in `NullNvml`.
    """

    reason: str | None = None

    def __init__(self, library: Any, handle: object) -> None:
        self.support: dict[str, str] = {}
        self._library, self._handle = library, handle

    @classmethod
    def open(cls, uuid: str | None = None, *, library: Any = None) -> Nvml:
        """The card with this UUID, or one that answers nothing and says why.

        An index would not do: ``CUDA_VISIBLE_DEVICES`` renumbers torch's devices, not NVML's.

        Args:
            uuid: as torch or NVML write it; by default that of torch's current device.
            library: nvidia-ml-py's module ``pynvml``.
        """
        if uuid is None and not torch.cuda.is_available():
            return NullNvml("torch sees no CUDA device")
        try:
            library = library or importlib.import_module("pynvml")
        except ImportError:
            return NullNvml("nvidia-ml-py is missing: pip install 'dynadiag[cuda13]' (or cuda12)")
        try:
            library.nvmlInit()
            return cls(library, _handle(library, uuid or _current_uuid()))
        except library.NVMLError as error:
            return NullNvml(f"NVML cannot be used: {error}")

    @property
    def energy_mj(self) -> int | None:
        """Millijoules since the driver was loaded."""
        return self._number("nvmlDeviceGetTotalEnergyConsumption")

    @property
    def power_w(self) -> float | None:
        """Watts; a mean over the last second on Ampere (except GA100) and newer."""
        return _thousandth(self._number("nvmlDeviceGetPowerUsage"))

    @property
    def instant_power_w(self) -> float | None:
        """Watts of the sensor's latest sample."""
        return _thousandth(self._fields([_POWER_INSTANT]).get(_POWER_INSTANT))

    @property
    def clocks(self) -> dict[str, int | None]:
        """MHz of the multiprocessors (``sm``) and of the memory (``mem``)."""
        return self._clocks("nvmlDeviceGetClockInfo")

    @property
    def temperature_c(self) -> int | None:
        """Degrees Celsius of the chip."""
        return self._number("nvmlDeviceGetTemperature", 0)

    @property
    def throttle_reasons(self) -> frozenset[str] | None:
        """What holds the clocks at this moment, in the words of `REASONS`."""
        bits = self._number("nvmlDeviceGetCurrentClocksEventReasons")
        return None if bits is None else frozenset(REASONS[bit] for bit in REASONS if bits & bit)

    @property
    def violations_ns(self) -> dict[str, int]:
        """Nanoseconds so far of each policy of `VIOLATIONS` that the card counts."""
        found = self._fields(VIOLATIONS)
        return {VIOLATIONS[field]: int(value) for field, value in found.items()}

    @property
    def processes(self) -> list[Process] | None:
        """Who computes on the card, this process included."""
        found = self._ask("nvmlDeviceGetComputeRunningProcesses_v3")
        return None if found is None else [Process(each.pid, each.usedGpuMemory) for each in found]

    @property
    def utilization(self) -> int | None:
        """Percent of the last sample period in which a kernel ran."""
        found = self._ask("nvmlDeviceGetUtilizationRates")
        return None if found is None else int(found.gpu)

    @property
    def mig(self) -> bool | None:
        """Whether the card is split into instances; null where it cannot be."""
        modes = self._ask("nvmlDeviceGetMigMode")
        part = self._ask("nvmlDeviceIsMigDeviceHandle")
        if part is not None and part.value:
            return True
        return None if modes is None else bool(modes[0])

    @property
    def vgpu(self) -> bool | None:
        """Whether this is a share of a card, handed out by a hypervisor."""
        mode = self._number("nvmlDeviceGetVirtualizationMode")
        return None if mode is None else mode == _VGPU

    @property
    def driver(self) -> str | None:
        """Version of the driver."""
        version: str | None = self._call("nvmlSystemGetDriverVersion")
        return version

    def facts(self) -> dict[str, Any]:
        """What a run's header says of the card, null where refused."""
        pci = self._ask("nvmlDeviceGetPciInfo_v3")
        ecc = self._ask("nvmlDeviceGetEccMode")
        reasons, processes = self.throttle_reasons, self.processes
        return {
            "reason": self.reason,
            "driver": self.driver,
            "cuda_driver": _version(self._call("nvmlSystemGetCudaDriverVersion_v2")),
            "vbios": self._ask("nvmlDeviceGetVbiosVersion"),
            "pci": None if pci is None else pci.busId,
            "pcie_gen": self._ask("nvmlDeviceGetCurrPcieLinkGeneration"),
            "pcie_width": self._ask("nvmlDeviceGetCurrPcieLinkWidth"),
            "ecc": None if ecc is None else bool(ecc[0]),
            "mig": self.mig,
            "vgpu": self.vgpu,
            "persistence": self._ask("nvmlDeviceGetPersistenceMode"),
            "compute_mode": self._ask("nvmlDeviceGetComputeMode"),
            "power_limit_w": self._power_limits(),
            "clocks_mhz": {
                "current": self.clocks,
                "max": self._clocks("nvmlDeviceGetMaxClockInfo"),
                "application": self._clocks("nvmlDeviceGetApplicationsClock"),
            },
            "temperature_c": self.temperature_c,
            "utilization": self.utilization,
            "throttle_reasons": None if reasons is None else sorted(reasons),
            "violations_ns": self.violations_ns,
            "processes": None if processes is None else len(processes),
            "energy_mj": self.energy_mj,
            "power_w": self.power_w,
            "instant_power_w": self.instant_power_w,
            "support": dict(self.support),
        }

    def _power_limits(self) -> dict[str, float | None]:
        least, most = self._ask("nvmlDeviceGetPowerManagementLimitConstraints") or (None, None)
        limits = {
            "enforced": self._ask("nvmlDeviceGetEnforcedPowerLimit"),
            "default": self._ask("nvmlDeviceGetPowerManagementDefaultLimit"),
            "min": least,
            "max": most,
        }
        return {name: _thousandth(milliwatts) for name, milliwatts in limits.items()}

    def _clocks(self, query: str) -> dict[str, int | None]:
        return {name: self._number(query, clock) for name, clock in _CLOCKS.items()}

    def _fields(self, numbers: Collection[int]) -> Mapping[int, int | float]:
        found: dict[int, int | float] = {}
        for each in self._ask("nvmlDeviceGetFieldValues", list(numbers)) or ():
            if each.nvmlReturn == 0:
                found[each.fieldId] = getattr(each.value, _MEMBERS[each.valueType])
                self.support[f"field {each.fieldId}"] = "ok"
            else:
                refusal = self._library.NVMLError(each.nvmlReturn)
                self.support[f"field {each.fieldId}"] = str(refusal)
        return found

    def _number(self, query: str, *arguments: int) -> int | None:
        number: int | None = self._ask(query, *arguments)
        return number

    def _ask(self, query: str, *arguments: Any) -> Any:
        return self._call(query, self._handle, *arguments)

    def _call(self, query: str, *arguments: Any) -> Any:
        name = " ".join([query, *(str(word) for word in arguments if isinstance(word, int))])
        try:
            answer = getattr(self._library, query)(*arguments)
        except (self._library.NVMLError, AttributeError) as error:  # an older nvidia-ml-py
            self.support[name] = str(error)
            return None
        self.support[name] = "ok"
        return answer


class NullNvml(Nvml):
    """No card to ask: every answer is null."""

    def __init__(self, reason: str) -> None:
        self.support = {}
        self.reason, self._handle = reason, None

    def _call(self, query: str, *arguments: Any) -> Any:
        return None


def _current_uuid() -> str:
    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def _handle(library: Any, uuid: str) -> object:
    """NVML writes GPU- or MIG- before the UUID, torch neither."""
    if uuid.startswith(("GPU-", "MIG-")):
        return library.nvmlDeviceGetHandleByUUID(uuid)
    try:
        return library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except library.NVMLError_NotFound:
        return library.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1000


def _version(number: int | None) -> str | None:
    return None if number is None else f"{number // 1000}.{number % 1000 // 10}"
