"""NVML without a card: answers in the shape of nvidia-ml-py's, with made-up figures.

The stand-in for the module `pynvml` has its constants, structs and errors; only the queries are
replaced. Its card lives in a time of its own, which moves when somebody sleeps or works.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

UUID = "f3a1b2c4-0d5e-4f60-8a7b-9c0d1e2f3a4b"
GIB = 2**30

# Answers by function, or by function and its arguments; an NVMLError is raised.
H200: dict[str, Any] = {
    "nvmlInit": None,
    "nvmlSystemGetDriverVersion": "580.95.05",
    "nvmlSystemGetCudaDriverVersion_v2": 13000,
    "nvmlDeviceGetVbiosVersion": "96.00.CF.00.02",
    "nvmlDeviceGetCurrPcieLinkGeneration": 5,
    "nvmlDeviceGetCurrPcieLinkWidth": 16,
    "nvmlDeviceGetEccMode": [1, 1],
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetVirtualizationMode": pynvml.NVML_GPU_VIRTUALIZATION_MODE_PASSTHROUGH,
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetComputeMode": 0,
    "nvmlDeviceGetPowerManagementLimitConstraints": [200_000, 700_000],
    "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
    "nvmlDeviceGetClockInfo": {(1,): 1980, (2,): 3201},
    "nvmlDeviceGetMaxClockInfo": {(1,): 1980, (2,): 3201},
    "nvmlDeviceGetApplicationsClock": {(1,): 1980, (2,): 3201},
    "nvmlDeviceGetTemperature": {(pynvml.NVML_TEMPERATURE_GPU,): 34},
    "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlClocksEventReasonGpuIdle,
}
_ULL, _UINT = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
_MEMBERS = {_ULL: "ullVal", _UINT: "uiVal"}
_HANDLE = pynvml.c_nvmlDevice_t()


class FakeNvml:
    """The module `pynvml` of a machine with one card.

    Attributes:
        answers: by function; replace them at will, `refuse` for errors.
        violations_ns: by field; a missing one is not supported.
        missing: functions that this version of the module lacks.
        asked: every function that was looked up.
        uuid: what the card is found by.
        watts: drawn at present; the counter follows.
        idle_watts: drawn while somebody sleeps.
        load_watts: drawn by `work`.
        sensor: factor between the power sensor and the truth.
        tick_s: the counter shows the truth at this pace only.
    """

    def __init__(self) -> None:
        self.answers = dict(H200)
        self.violations_ns = dict.fromkeys([*range(74, 82), 269, 270, 271], 0)
        self.missing: set[str] = set()
        self.asked: list[str] = []
        self.uuid = f"GPU-{UUID}"
        self.idle_watts, self.load_watts, self.sensor, self.tick_s = 80.0, 480.0, 1.0, 0.1
        self.watts = self.idle_watts
        self.now, self._joules, self._shown, self._next_tick = 0.0, 5e6, 5 * 10**9, 0.1
        self._beats: list[tuple[Callable[[], None], float, list[float]]] = []
        pci = pynvml.nvmlPciInfo_t()
        pci.busId = "00000000:18:00.0"
        self.answers |= {
            "nvmlDeviceGetPciInfo_v3": pci,
            "nvmlDeviceIsMigDeviceHandle": pynvml.c_uint(0),
            "nvmlDeviceGetUtilizationRates": pynvml.c_nvmlUtilization_t(0, 0),
            "nvmlDeviceGetHandleByUUID": self._find,
            "nvmlDeviceGetTotalEnergyConsumption": self._counter,
            "nvmlDeviceGetPowerUsage": self._milliwatts,
            "nvmlDeviceGetFieldValues": self._fields,
            "nvmlDeviceGetComputeRunningProcesses_v3": [process(os.getpid(), 2 * GIB)],
        }

    def refuse(self, query: str, code: int = pynvml.NVML_ERROR_NOT_SUPPORTED) -> None:
        """Have a query fail."""
        self.answers[query] = pynvml.NVMLError(code)

    def reset_counter(self) -> None:
        """What a reload of the driver does."""
        self._joules, self._shown = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or not callable(getattr(pynvml, name)):
            return getattr(pynvml, name)
        if name in self.missing:
            raise AttributeError(f"module 'pynvml' has no attribute {name!r}")
        self.asked.append(name)
        return lambda *arguments: self._answer(name, *arguments)

    def _answer(self, name: str, *arguments: Any) -> Any:
        answer = self.answers.get(name, pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND))
        _signature(name).bind(*arguments)
        if name.startswith("nvmlDevice") and not name.endswith("ByUUID"):
            assert arguments[0] is _HANDLE
            arguments = arguments[1:]
        if callable(answer):
            return answer(*arguments)
        if isinstance(answer, dict):
            answer = answer[arguments]
        if isinstance(answer, pynvml.NVMLError):
            raise pynvml.NVMLError(answer.value)
        return answer

    def _find(self, uuid: str) -> object:
        if uuid != self.uuid:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return _HANDLE

    def _fields(self, numbers: list[int]) -> Any:
        refusal = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        values = (pynvml.c_nvmlFieldValue_t * len(numbers))()
        for value, number in zip(values, numbers, strict=True):
            value.fieldId, value.valueType = number, _ULL
            answer = self.violations_ns.get(number, refusal)
            if number == pynvml.NVML_FI_DEV_POWER_INSTANT:
                answer, value.valueType = self.answers.get("instant", self._milliwatts()), _UINT
            if isinstance(answer, pynvml.NVMLError):
                value.nvmlReturn = answer.value
            else:
                setattr(value.value, _MEMBERS[value.valueType], answer)
        return values

    def _milliwatts(self) -> int:
        return round(1000 * self.watts * self.sensor)

    def _counter(self) -> int:
        return self._shown

    # Time

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the card idle."""
        self._spend(seconds, self.idle_watts)

    def work(self, seconds: float = 0.01) -> None:
        """Have the card compute."""
        self._spend(seconds, self.load_watts)

    @contextmanager
    def repeat(self, act: Callable[[], None], period_s: float) -> Iterator[None]:
        """Call `act` every `period_s`, as a thread would."""
        beat = (act, period_s, [self.now + period_s])
        self._beats.append(beat)
        yield
        self._beats.remove(beat)

    def _spend(self, seconds: float, watts: float) -> None:
        end, self.watts = self.now + seconds, watts
        while due := [beat for beat in self._beats if beat[2][0] <= end]:
            act, period_s, at = min(due, key=lambda beat: beat[2][0])
            self._move(at[0])
            at[0] += period_s
            act()
        self._move(end)

    def _move(self, now: float) -> None:
        while self._next_tick <= now:
            self._draw(self._next_tick)
            self._shown = int(1000 * self._joules)
            self._next_tick += self.tick_s
        self._draw(now)

    def _draw(self, now: float) -> None:
        self._joules += self.watts * (now - self.now)
        self.now = now


@functools.cache
def _signature(name: str) -> inspect.Signature:
    return inspect.signature(getattr(pynvml, name))


def process(pid: int, size: int | None) -> Any:
    """One of nvidia-ml-py's friendly objects; the memory is unknown in some containers."""
    return pynvml.nvmlFriendlyObject(
        {"pid": pid, "usedGpuMemory": size, "gpuInstanceId": 0xFFFFFFFF}
    )
