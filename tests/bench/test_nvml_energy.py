from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pynvml
import pytest
import torch

from dynadiag.bench.energy import EnergyMeter, NoEnergy
from dynadiag.bench.nvml import Nvml
from dynadiag.bench.nvml_energy import Machine, NvmlCounter, NvmlPoll, in_thread, open_meter

from .fake_nvml import UUID, FakeNvml, process

COUNTER, POWER = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
NOT_SUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

Opened = Callable[[], EnergyMeter]


@pytest.fixture
def machine(card: FakeNvml) -> Machine:
    return Machine(card.clock, card.sleep, card.repeat, lambda: None, lambda: 0.037)


@pytest.fixture
def opened(card: FakeNvml, machine: Machine) -> Opened:
    """Opens the meter of the card as it is by then."""
    return lambda: open_meter(Nvml.open(UUID, library=card), machine)


@pytest.mark.parametrize("seconds", [2.0, 5.0, 60.0])
def test_a_window_is_the_power_under_load_times_its_time(
    card: FakeNvml, opened: Opened, seconds: float
) -> None:
    meter = opened()
    assert isinstance(meter, NvmlCounter)
    found = meter.window(card.work, seconds, idle_watts=80.0)
    assert (found.method, found.reason, found.flags) == ("nvml_counter", None, ())
    assert seconds <= found.seconds < seconds + 0.3
    assert found.watts == pytest.approx(480.0, rel=0.005)
    assert found.gross_j_per_iteration == pytest.approx(4.8, rel=0.005)
    assert found.net_j_per_iteration == pytest.approx(4.0, rel=0.005)
    assert found.seconds_per_iteration == pytest.approx(0.01)


def test_without_the_idle_power_there_is_no_net_energy(card: FakeNvml, opened: Opened) -> None:
    assert opened().window(card.work).net_j is None


def test_power_that_changes_inside_the_window_counts_as_it_was(
    card: FakeNvml, opened: Opened
) -> None:
    begun = card.clock()

    def call() -> None:
        card.load_watts = 300.0 if card.clock() - begun < 3.5 else 500.0
        card.work()

    found = opened().window(call, seconds=5.0)  # a second of lead, 2.5 s of 300 W, 2.5 s of 500 W
    assert found.watts == pytest.approx(400.0, rel=0.03)
    assert found.flags == ()


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.05, 0.099])
def test_the_phase_of_the_ticks_does_not_matter(
    card: FakeNvml, machine: Machine, delay: float
) -> None:
    shifted = Machine(card.clock, card.sleep, card.repeat, lambda: None, lambda: delay)
    found = open_meter(Nvml.open(UUID, library=card), shifted).window(card.work, 2.0)
    assert found.watts == pytest.approx(480.0, rel=0.01)


def test_windows_start_at_random_within_a_tick() -> None:
    delays = {Machine().delay() for _ in range(50)}
    assert len(delays) > 40
    assert min(delays) >= 0.0
    assert max(delays) <= 0.1


@pytest.mark.parametrize("milliseconds", [0.1, 5.0, 900.0])
def test_the_card_is_waited_for_in_batches(
    card: FakeNvml, opened: Opened, machine: Machine, milliseconds: float
) -> None:
    waits: list[float] = []
    patient = Machine(
        card.clock, card.sleep, card.repeat, lambda: waits.append(card.clock()), machine.delay
    )
    meter = open_meter(Nvml.open(UUID, library=card), patient)
    found = meter.window(functools.partial(card.work, milliseconds / 1000), 5.0)
    assert found.seconds_per_iteration == pytest.approx(milliseconds / 1000)
    assert len(waits) < 350
    assert max(b - a for a, b in pairwise(waits)) < max(0.1, milliseconds / 500)


@pytest.mark.parametrize(("sensor", "flags"), [(1.04, ()), (1.06, ("energy_disagrees",))])
def test_counter_and_sensor_must_agree(
    card: FakeNvml, opened: Opened, sensor: float, flags: tuple[str, ...]
) -> None:
    card.sensor = sensor
    found = opened().window(card.work)
    assert found.watts == pytest.approx(480.0, rel=0.005)
    assert found.flags == flags


def test_a_card_without_the_sensor_is_unchecked(card: FakeNvml, opened: Opened) -> None:
    card.answers["instant"] = NOT_SUPPORTED
    found = opened().window(card.work)
    assert found.flags == ("energy_unchecked",)
    assert found.gross_j is not None


def test_a_counter_that_goes_back_is_null(card: FakeNvml, opened: Opened) -> None:
    meter, begun = opened(), card.clock()

    def call() -> None:
        if begun + 3.0 < card.clock() < begun + 3.01:
            card.reset_counter()
        card.work()

    found = meter.window(call)
    assert (found.gross_j, found.net_j) == (None, None)
    assert found.reason == "the energy counter went back, as when the driver is loaded anew"


def test_a_counter_that_fails_in_the_window_is_null(card: FakeNvml, opened: Opened) -> None:
    meter, begun = opened(), card.clock()

    def call() -> None:
        if card.clock() > begun + 2.0:
            card.refuse(COUNTER, pynvml.NVML_ERROR_GPU_IS_LOST)
        card.work()

    found = meter.window(call)
    assert found.gross_j is None
    assert found.reason is not None
    assert found.reason.endswith("20 are needed: GPU is lost")


def test_a_counter_that_stands_still_is_null_not_zero(card: FakeNvml, opened: Opened) -> None:
    card.answers[COUNTER] = 123
    meter = opened()
    found = meter.window(card.work, seconds=2.0)
    assert (found.gross_j, found.method) == (None, "nvml_counter")
    assert found.reason == "the energy counter ticked 0 times, 20 are needed"
    assert 4.0 <= found.seconds < 4.2
    assert meter.idle_watts() is None


def test_a_slow_counter_prolongs_the_window(card: FakeNvml, opened: Opened) -> None:
    card.tick_s = 0.4
    found = opened().window(card.work, seconds=5.0)
    assert found.watts == pytest.approx(480.0, rel=0.005)
    assert 7.6 <= found.seconds < 8.5


def test_idle_power_by_the_counter(card: FakeNvml, opened: Opened) -> None:
    meter = opened()
    assert meter.idle_watts() == pytest.approx(80.0, rel=0.005)
    card.sensor = 1.5
    assert meter.idle_watts() is None


def test_idling_before_and_after_the_window(card: FakeNvml, opened: Opened) -> None:
    def call() -> None:
        card.idle_watts = 100.0  # the card is warm now
        card.work()

    found = opened().between_idles(call)
    assert found.net_j_per_iteration == pytest.approx(4.8 - 0.9, rel=1e-3)


@pytest.mark.parametrize("seconds", [0.0, 1.9])
def test_short_windows_are_refused_before_they_start(
    card: FakeNvml, opened: Opened, seconds: float
) -> None:
    meter = opened()
    with pytest.raises(ValueError, match=r"too short to meter energy: give at least 2 s"):
        meter.window(pytest.fail, seconds)
    with pytest.raises(ValueError, match=r"give at least 2 s"):
        meter.idle_watts(seconds)


def test_errors_of_the_call_pass_through(opened: Opened) -> None:
    with pytest.raises(ZeroDivisionError):
        opened().window(lambda: 1 // 0)


def test_a_card_without_a_counter_is_polled(card: FakeNvml, opened: Opened) -> None:
    card.refuse(COUNTER)
    meter = opened()
    assert isinstance(meter, NvmlPoll)
    assert meter.idle_watts() == pytest.approx(80.0)
    found = meter.window(card.work, idle_watts=80.0)
    assert (found.method, found.flags) == ("nvml_poll", ())
    assert found.gross_j_per_iteration == pytest.approx(4.8)
    assert found.net_j_per_iteration == pytest.approx(4.0)


def test_the_mean_of_the_last_second_is_named(card: FakeNvml, opened: Opened) -> None:
    card.refuse(COUNTER)
    card.answers["instant"] = NOT_SUPPORTED
    found = opened().window(card.work)
    assert found.flags == ("power_averaged",)
    assert found.watts == pytest.approx(480.0)


def test_a_sensor_that_fails_in_the_window_is_null(card: FakeNvml, opened: Opened) -> None:
    card.refuse(COUNTER)
    meter = opened()
    card.answers["instant"] = pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
    found = meter.window(card.work)
    assert (found.gross_j, found.method) == (None, "nvml_poll")
    assert found.reason == "0 readings of power, 20 are needed"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"nvmlDeviceGetMigMode": [1, 1]}, "the card is split (MIG)"),
        ({"nvmlDeviceGetVirtualizationMode": 2}, "the card is a share (vGPU)"),
        (
            {PROCESSES: [process(os.getpid(), 1), process(77, 1), process(78, 1)]},
            "2 other process(es) on the card",
        ),
        (
            dict.fromkeys((COUNTER, POWER, "instant"), NOT_SUPPORTED),
            "the card shows neither its energy nor its power",
        ),
    ],
    ids=["MIG", "vGPU", "shared", "nothing"],
)
def test_cards_that_cannot_be_metered_say_why(
    card: FakeNvml, opened: Opened, answers: dict[str, object], reason: str
) -> None:
    card.answers |= answers
    meter = opened()
    assert isinstance(meter, NoEnergy)
    assert meter.reason.startswith(reason)


def test_a_container_hides_the_number_of_this_process(
    card: FakeNvml, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.answers[PROCESSES] = [process(31337, None)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert isinstance(opened(), NvmlCounter)


def test_metering_sets_nothing(card: FakeNvml, opened: Opened) -> None:
    opened().between_idles(card.work)
    assert not any("Set" in name or "Clear" in name or "Reset" in name for name in card.asked)


def test_the_thread_beats_until_its_block_ends() -> None:
    beats: list[float] = []
    enough = threading.Event()

    def beat() -> None:
        beats.append(time.monotonic())
        if len(beats) == 3:
            enough.set()

    threads = threading.active_count()
    with in_thread(beat, 0.001):
        assert enough.wait(10.0)
    seen = len(beats)
    time.sleep(0.01)
    assert (len(beats), threading.active_count()) == (seen, threads)


def test_the_thread_ends_when_its_block_fails() -> None:
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), in_thread(lambda: None, 0.001):
        raise ZeroDivisionError
    assert threading.active_count() == threads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_card_of_this_machine() -> None:
    meter = open_meter(Nvml.open())
    if isinstance(meter, NoEnergy):
        pytest.skip(meter.reason)
    x = torch.randn(2048, 2048, device="cuda")
    idle, found = meter.idle_watts(2.0), meter.window(lambda: x @ x, 2.0)
    assert found.reason is None
    assert found.watts is not None
    assert 1.0 < (idle or 1.1) < found.watts < 5000.0
