from __future__ import annotations

import os
from collections.abc import Callable

import pynvml
import pytest
import torch

from dynadiag.bench.nvml import NullNvml, Nvml
from dynadiag.bench.watch import Watch, cool_down, foreign_processes, watched, why_busy

from .fake_nvml import GIB, UUID, FakeNvml, process

REASONS = "nvmlDeviceGetCurrentClocksEventReasons"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
TEMPERATURE = "nvmlDeviceGetTemperature"
POWER_CAP = pynvml.nvmlClocksEventReasonSwPowerCap
HW_THERMAL = pynvml.nvmlClocksEventReasonHwThermalSlowdown
ME = process(os.getpid(), GIB)
OTHER = process(77, 3 * GIB)


@pytest.fixture
def nvml(card: FakeNvml) -> Nvml:
    return Nvml.open(UUID, library=card)


def never(seconds: float) -> None:
    pytest.fail(f"slept {seconds} s")


def heat(card: FakeNvml, celsius: int) -> None:
    card.answers[TEMPERATURE] = {(pynvml.NVML_TEMPERATURE_GPU,): celsius}


def test_a_quiet_case_has_no_flags_and_its_facts(card: FakeNvml, nvml: Nvml) -> None:
    watch = Watch(nvml)
    heat(card, 41)
    card.answers[REASONS] = 0
    seen = watch.seen()
    assert (seen.flags, seen.throttled) == ((), False)
    assert seen.facts == {
        "sm_mhz": [1980, 1980],
        "mem_mhz": [3201, 3201],
        "temperature_c": [34, 41],
        "reasons": [["idle"], []],
        "violations_ns": {},
    }


def test_only_what_grew_during_the_case_counts(card: FakeNvml, nvml: Nvml) -> None:
    card.violations_ns |= {74: 10**9, 75: 5 * 10**9}
    watch = Watch(nvml)
    assert watch.seen().flags == ()
    card.violations_ns[74] += 7
    assert watch.seen().flags == ("power_capped",)
    assert watch.seen().facts["violations_ns"] == {"power": 7}


def test_the_power_cap_is_no_reason_to_measure_again(card: FakeNvml, nvml: Nvml) -> None:
    watch = Watch(nvml)
    card.answers[REASONS] = POWER_CAP
    seen = watch.seen()
    assert (seen.flags, seen.throttled) == (("power_capped",), False)


@pytest.mark.parametrize(
    "reason",
    [
        pynvml.nvmlClocksEventReasonHwSlowdown,
        pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        HW_THERMAL,
        pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
    ],
)
def test_heat_and_hardware_throttle(card: FakeNvml, nvml: Nvml, reason: int) -> None:
    watch = Watch(nvml)
    card.answers[REASONS] = reason | POWER_CAP
    seen = watch.seen()
    assert (seen.flags, seen.throttled) == (("throttled", "power_capped"), True)


@pytest.mark.parametrize("field", [75, 269, 270, 271])
def test_a_slowdown_between_the_looks_shows_in_its_counter(
    card: FakeNvml, nvml: Nvml, field: int
) -> None:
    watch = Watch(nvml)
    card.violations_ns[field] += 1_000_000
    assert watch.seen().flags == ("throttled",)


@pytest.mark.parametrize("field", [76, 77, 78, 79, 80, 81])
def test_other_policies_are_facts_without_a_flag(card: FakeNvml, nvml: Nvml, field: int) -> None:
    watch = Watch(nvml)
    card.violations_ns[field] += 5
    seen = watch.seen()
    assert seen.flags == ()
    assert list(seen.facts["violations_ns"].values()) == [5]


def test_counters_that_start_again_are_ignored(card: FakeNvml, nvml: Nvml) -> None:
    card.violations_ns[75] = 10**9
    watch = Watch(nvml)
    card.violations_ns[75] = 3
    assert watch.seen().flags == ()


def test_a_counter_seen_for_the_first_time_tells_nothing(card: FakeNvml, nvml: Nvml) -> None:
    del card.violations_ns[75]
    watch = Watch(nvml)
    card.violations_ns[75] = 10**9
    assert watch.seen().flags == ()


def test_an_unwatched_case_has_null_facts() -> None:
    seen = Watch(NullNvml("no card")).seen()
    assert seen.flags == ()
    unknown = ("sm_mhz", "mem_mhz", "temperature_c", "reasons")
    assert seen.facts == {key: [None, None] for key in unknown} | {"violations_ns": {}}


def measured(card: FakeNvml, throttled: int) -> Callable[[], int]:
    """A measurement whose first attempts are throttled; returns the number of the attempt."""
    attempts: list[int] = []

    def measure() -> int:
        attempts.append(len(attempts) + 1)
        if attempts[-1] <= throttled:
            card.violations_ns[270] += 1
        return attempts[-1]

    return measure


@pytest.mark.parametrize(("throttled", "attempt"), [(0, 1), (1, 2), (2, 3), (3, 3), (9, 3)])
def test_a_throttled_case_is_measured_again_at_most_twice(
    card: FakeNvml, nvml: Nvml, throttled: int, attempt: int
) -> None:
    result, seen = watched(nvml, measured(card, throttled), sleep=never)
    assert result == attempt
    assert seen.throttled is (throttled > 2)


def test_before_another_try_the_card_cools_down(card: FakeNvml, nvml: Nvml) -> None:
    slept: list[float] = []
    measure = measured(card, 1)

    def hot() -> int:
        if not slept:
            heat(card, 84)
        return measure()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        heat(card, 84 - 10 * len(slept))

    assert watched(nvml, hot, sleep=sleep)[0] == 2
    assert slept == [1.0] * 5  # 74, 64, 54, 44, 34 degrees


def test_cooling_waits_for_the_slowdown_to_end_too(card: FakeNvml, nvml: Nvml) -> None:
    card.answers[REASONS] = HW_THERMAL
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        card.answers[REASONS] = 0 if len(slept) == 3 else HW_THERMAL

    cool_down(nvml, 34, sleep=sleep)
    assert len(slept) == 3


def test_cooling_is_bounded(card: FakeNvml, nvml: Nvml) -> None:
    heat(card, 80)
    slept: list[float] = []
    cool_down(nvml, 34, limit_s=7, sleep=slept.append)
    assert slept == [1.0] * 7


@pytest.mark.parametrize("celsius", [32, 34, None])
def test_a_cool_card_is_not_waited_for(nvml: Nvml, celsius: int | None) -> None:
    cool_down(nvml, celsius, sleep=never)
    cool_down(NullNvml("no card"), celsius, sleep=never)


@pytest.mark.parametrize(
    ("listed", "active", "others"),
    [
        ([], False, 0),
        ([], True, 0),  # some containers show nobody
        ([ME], True, 0),
        ([ME, OTHER], True, 1),
        ([OTHER], False, 1),
        ([OTHER], True, 0),  # the host's number of this process
        ([OTHER, process(78, None)], True, 1),
        ([process(0, None)], True, 0),
        ([process(0, None), process(0, None)], False, 2),
    ],
)
def test_foreign_processes(
    card: FakeNvml, nvml: Nvml, listed: list[object], active: bool, others: int
) -> None:
    card.answers[PROCESSES] = listed
    assert foreign_processes(nvml, active=active) == others


def test_foreign_processes_by_default_ask_torch_whether_it_is_on_the_card(
    card: FakeNvml, nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.answers[PROCESSES] = [OTHER]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    assert foreign_processes(nvml) == 1
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert foreign_processes(nvml) == 0


def test_hidden_processes_are_unknown_not_none(card: FakeNvml, nvml: Nvml) -> None:
    card.refuse(PROCESSES, pynvml.NVML_ERROR_NO_PERMISSION)
    assert foreign_processes(nvml) is None
    assert why_busy(nvml) is None


def test_a_busy_card_is_a_reason_not_to_start(card: FakeNvml, nvml: Nvml) -> None:
    assert why_busy(nvml) is None
    card.answers["nvmlDeviceGetUtilizationRates"] = pynvml.c_nvmlUtilization_t(63, 5)
    assert "busy for 63 %" in str(why_busy(nvml))
    card.answers[PROCESSES] = [ME, OTHER]
    assert "1 other process(es)" in str(why_busy(nvml))


def test_watching_sets_nothing(card: FakeNvml, nvml: Nvml) -> None:
    watched(nvml, measured(card, 9), sleep=never)
    why_busy(nvml)
    assert not any("Set" in name or "Clear" in name or "Reset" in name for name in card.asked)
