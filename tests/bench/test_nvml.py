from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace

import pynvml
import pytest
import torch

from dynadiag.bench.nvml import REASONS, VIOLATIONS, NullNvml, Nvml, Process

from .fake_nvml import GIB, UUID, FakeNvml, process

REFUSALS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "Not Supported",
    pynvml.NVML_ERROR_NO_PERMISSION: "Insufficient Permissions",
    pynvml.NVML_ERROR_GPU_IS_LOST: "GPU is lost",
}
# property, query behind it
ANSWERS = {
    "energy_mj": "nvmlDeviceGetTotalEnergyConsumption",
    "power_w": "nvmlDeviceGetPowerUsage",
    "instant_power_w": "nvmlDeviceGetFieldValues",
    "temperature_c": "nvmlDeviceGetTemperature 0",
    "throttle_reasons": "nvmlDeviceGetCurrentClocksEventReasons",
    "processes": "nvmlDeviceGetComputeRunningProcesses_v3",
    "utilization": "nvmlDeviceGetUtilizationRates",
    "vgpu": "nvmlDeviceGetVirtualizationMode",
    "driver": "nvmlSystemGetDriverVersion",
}


@pytest.fixture
def nvml(card: FakeNvml) -> Nvml:
    return Nvml.open(UUID, library=card)


def test_a_card_answers_in_si_units_and_words(nvml: Nvml, card: FakeNvml) -> None:
    card.violations_ns[74] = 12_000_000
    assert nvml.reason is None
    assert nvml.energy_mj == 5 * 10**9
    assert (nvml.power_w, nvml.instant_power_w) == (80.0, 80.0)
    assert nvml.clocks == {"sm": 1980, "mem": 3201}
    assert nvml.temperature_c == 34
    assert nvml.throttle_reasons == frozenset({"idle"})
    assert nvml.violations_ns == dict.fromkeys(VIOLATIONS.values(), 0) | {"power": 12_000_000}
    assert nvml.processes == [Process(os.getpid(), 2 * GIB)]
    assert (nvml.utilization, nvml.mig, nvml.vgpu) == (0, False, False)
    assert nvml.driver == "580.95.05"
    assert set(nvml.support.values()) == {"ok"}


def test_facts_are_json_and_complete_on_a_card_that_answers_all(nvml: Nvml) -> None:
    facts = nvml.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert [name for name, value in facts.items() if value is None] == ["reason"]
    assert facts["cuda_driver"] == "13.0"
    assert facts["pci"] == "00000000:18:00.0"
    assert facts["power_limit_w"] == {"enforced": 700, "default": 700, "min": 200, "max": 700}
    assert facts["clocks_mhz"]["max"] == {"sm": 1980, "mem": 3201}
    assert facts["throttle_reasons"] == ["idle"]
    assert (facts["ecc"], facts["processes"]) == (True, 1)


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_refused_query_is_null_and_named(
    nvml: Nvml, card: FakeNvml, name: str, code: int
) -> None:
    card.refuse(ANSWERS[name].split()[0], code)
    facts = nvml.facts()
    assert getattr(nvml, name) is None
    assert nvml.support[ANSWERS[name]] == REFUSALS[code]
    known = {key for key, value in facts.items() if value is None} - {"reason", name}
    assert not known & set(ANSWERS)  # the others still answer


def test_a_card_that_refuses_everything_still_has_facts(card: FakeNvml) -> None:
    for query in set(card.answers) - {"nvmlInit", "nvmlDeviceGetHandleByUUID"}:
        card.refuse(query, pynvml.NVML_ERROR_NO_PERMISSION)
    nvml = Nvml.open(UUID, library=card)
    facts = nvml.facts()
    assert set(facts.pop("support").values()) == {"Insufficient Permissions"}
    assert facts.pop("clocks_mhz")["current"] == {"sm": None, "mem": None}
    assert set(facts.pop("power_limit_w").values()) == {None}
    assert facts.pop("violations_ns") == {}
    assert set(facts.values()) == {None}


def test_fields_are_refused_one_by_one(nvml: Nvml, card: FakeNvml) -> None:
    for field in (269, 270, 271):
        del card.violations_ns[field]
    card.answers["instant"] = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert {"sw_thermal", "hw_thermal", "power_brake"}.isdisjoint(nvml.violations_ns)
    assert nvml.violations_ns["thermal"] == 0
    assert nvml.instant_power_w is None
    assert (nvml.support["field 75"], nvml.support["field 186"]) == ("ok", "Not Supported")


def test_one_clock_may_be_refused(nvml: Nvml, card: FakeNvml) -> None:
    card.answers["nvmlDeviceGetClockInfo"] = {
        (1,): 1980,
        (2,): pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
    }
    assert nvml.clocks == {"sm": 1980, "mem": None}
    assert nvml.support["nvmlDeviceGetClockInfo 1"] == "ok"
    assert nvml.support["nvmlDeviceGetClockInfo 2"] == "Not Supported"


def test_an_older_library_lacks_queries(nvml: Nvml, card: FakeNvml) -> None:
    card.missing = {"nvmlDeviceGetCurrentClocksEventReasons"}
    assert nvml.throttle_reasons is None
    assert "nvmlDeviceGetCurrentClocksEventReasons" in nvml.support


def test_the_words_are_nvmls(card: FakeNvml) -> None:
    assert REASONS[pynvml.nvmlClocksEventReasonSwPowerCap] == "power_cap"
    assert REASONS[pynvml.nvmlClocksEventReasonHwSlowdown] == "hw_slowdown"
    assert REASONS[pynvml.nvmlClocksEventReasonSwThermalSlowdown] == "sw_thermal"
    assert REASONS[pynvml.nvmlClocksEventReasonHwThermalSlowdown] == "hw_thermal"
    assert REASONS[pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown] == "power_brake"
    assert VIOLATIONS[pynvml.NVML_FI_DEV_PERF_POLICY_POWER] == "power"
    assert VIOLATIONS[pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL] == "thermal"
    assert VIOLATIONS[pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN] == "hw_thermal"


def test_several_reasons_at_a_time(nvml: Nvml, card: FakeNvml) -> None:
    unknown = 1 << 40
    card.answers["nvmlDeviceGetCurrentClocksEventReasons"] = 0x4 | 0x40 | unknown
    assert nvml.throttle_reasons == frozenset({"power_cap", "hw_thermal"})
    card.answers["nvmlDeviceGetCurrentClocksEventReasons"] = 0
    assert nvml.throttle_reasons == frozenset()


def test_memory_of_a_process_may_be_unknown(nvml: Nvml, card: FakeNvml) -> None:
    card.answers["nvmlDeviceGetComputeRunningProcesses_v3"] = [process(0, None)]
    assert nvml.processes == [Process(0, None)]


def test_a_split_card_is_known_from_its_mode(nvml: Nvml, card: FakeNvml) -> None:
    card.answers["nvmlDeviceGetMigMode"] = [pynvml.NVML_DEVICE_MIG_ENABLE, 1]
    assert nvml.mig is True


def test_an_instance_of_a_split_card_is_found_by_its_own_uuid(card: FakeNvml) -> None:
    card.uuid = f"MIG-{UUID}"
    card.refuse("nvmlDeviceGetMigMode", pynvml.NVML_ERROR_INVALID_ARGUMENT)
    card.answers["nvmlDeviceIsMigDeviceHandle"] = pynvml.c_uint(1)
    assert Nvml.open(UUID, library=card).mig is True


def test_a_card_that_cannot_be_split(nvml: Nvml, card: FakeNvml) -> None:
    card.refuse("nvmlDeviceGetMigMode")
    assert nvml.mig is None


def test_nvmls_own_spelling_of_a_uuid_is_taken(card: FakeNvml) -> None:
    assert Nvml.open(f"GPU-{UUID}", library=card).reason is None


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "NVML Shared Library Not Found"),
        ("nvmlInit", pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded"),
        ("nvmlInit", pynvml.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions"),
        ("nvmlDeviceGetHandleByUUID", pynvml.NVML_ERROR_NOT_FOUND, "Not Found"),
    ],
)
def test_no_card_to_ask_is_a_reason(card: FakeNvml, query: str, code: int, reason: str) -> None:
    card.refuse(query, code)
    nvml = Nvml.open(UUID, library=card)
    assert isinstance(nvml, NullNvml)
    assert nvml.reason == f"NVML cannot be used: {reason}"


def test_no_answer_is_null_and_never_zero() -> None:
    nvml = NullNvml("none here")
    facts = nvml.facts()
    assert facts.pop("reason") == "none here"
    assert (facts.pop("support"), facts.pop("violations_ns")) == ({}, {})
    assert facts.pop("clocks_mhz")["current"] == {"sm": None, "mem": None}
    assert set(facts.pop("power_limit_w").values()) == {None}
    assert set(facts.values()) == {None}


def test_the_library_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    reason = Nvml.open(UUID).reason
    assert reason is not None
    assert "pip install 'dynadiag[cuda13]'" in reason


def test_by_default_the_card_is_the_one_torch_uses(
    card: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Nvml.open(library=card).reason == "torch sees no CUDA device"
    uuids = ["another", UUID]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuids[index])
    )
    assert Nvml.open(library=card).reason is None


def test_nothing_is_ever_set(nvml: Nvml, card: FakeNvml) -> None:
    nvml.facts()
    assert len(set(card.asked)) > 20
    allowed = ("nvmlInit", "nvmlDeviceGet", "nvmlDeviceIs", "nvmlSystemGet")
    assert [name for name in card.asked if not name.startswith(allowed)] == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_card_of_this_machine() -> None:
    nvml = Nvml.open()
    facts = nvml.facts()
    assert nvml.reason is None
    assert json.loads(json.dumps(facts)) == facts
    assert facts["driver"]
