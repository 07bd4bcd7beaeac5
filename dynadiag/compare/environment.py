"""What differs between the machines and the software of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .outcome import Difference

_PARTS = ("schema_version", "mode", "device", "host", "software", "torch_flags", "env")
# What is another number at every look, or the same fact a second time.
_PASSING = (
    "device.foreign_processes",
    "device.nvml.clocks_mhz.current",
    "device.nvml.energy_mj",
    "device.nvml.power_w",
    "device.nvml.processes",
    "device.nvml.temperature_c",
    "device.nvml.throttle_reasons",
    "device.nvml.utilization",
    "device.nvml.violations_ns",
    "host.hostname_sha256",
    "host.load_average",
    "host.memory_bytes",
)


def differences(reference: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Difference, ...]:
    """The facts of two headers that differ, by name."""
    then, here = dict(_facts(reference)), dict(_facts(now))
    return tuple(
        Difference(name, then.get(name, "–"), here.get(name, "–"))
        for name in sorted(then.keys() | here.keys())
        if then.get(name) != here.get(name)
    )


def another_device(reference: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why two runs cannot be compared: ratios hold for one model of device only."""
    then, here = (header["device"].get("slug") for header in (reference, now))
    if then == here:
        return None
    return f"another device: the reference is of {then}, this run of {here}"


def title(header: Mapping[str, Any]) -> str:
    """A run in a few words: commit, day, device."""
    git = header["git"]
    commit = str(git.get("sha") or "no commit")[:7] + (" (dirty)" if git.get("dirty") else "")
    return f"{commit}, {header['started_utc'][:10]}, {header['device'].get('name')}"


def _facts(header: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for part in _PARTS:
        yield from _flat(part, header.get(part))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if name.startswith(_PASSING):
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif value is not None:
        yield name, str(value)
