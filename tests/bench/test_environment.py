from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dynadiag.bench import environment, processor
from dynadiag.bench.nvml import NullNvml, Nvml

from .fake_nvml import UUID, FakeNvml, process


def commit(folder: Path) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    (tmp_path / "file").write_text("one")
    commit(tmp_path)
    return tmp_path


def test_the_header_is_json_and_says_what_was_run() -> None:
    header = environment.header(mode="full", seed=3, argv=["dynadiag", "bench"])
    assert json.loads(json.dumps(header)) == header
    assert (header["mode"], header["seed"], header["argv"]) == ("full", 3, ["dynadiag", "bench"])
    assert header["device"]["slug"] == environment.device_slug()
    assert header["software"]["torch"]
    assert header["torch_flags"]["num_threads"] >= 1


def test_headers_have_their_own_run_id() -> None:
    assert environment.header()["run_id"] != environment.header()["run_id"]


def test_the_header_gives_nobody_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("TORCH_HOME", "/home/somebody/torch")
    monkeypatch.setattr("platform.node", lambda: "hidden-host")
    header = environment.header(argv=["/home/somebody/bin/dynadiag", "--out=/home/somebody/runs"])
    text = json.dumps(header)
    assert not any(word in text for word in ("hunter2", "somebody", "hidden-host"))
    assert header["argv"] == ["dynadiag", "--out=runs"]
    assert header["env"]["TORCH_HOME"] == "torch"


def test_only_listed_variables_are_kept() -> None:
    kept = environment.variables(
        {
            "OMP_NUM_THREADS": "2",
            "CUDA_VISIBLE_DEVICES": "0",
            "LD_PRELOAD": "/usr/lib/a.so:/opt/lib/b.so",
            "CUDA_HOME": "x",
            "HOME": "x",
            "MY_TORCH_TOKEN": "x",
        }
    )
    assert kept == {
        "CUDA_VISIBLE_DEVICES": "0",
        "LD_PRELOAD": "a.so:b.so",
        "OMP_NUM_THREADS": "2",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/c.py", "c.py"),
        ("--out=/x/y", "--out=y"),
        ("results/runs", "results/runs"),
        ("../shared/x", "../shared/x"),
        ("https://example.org/a", "https://example.org/a"),
        ("k=1", "k=1"),
    ],
)
def test_folders_are_cut_from_absolute_paths_only(text: str, expected: str) -> None:
    assert environment.without_folders(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "intel-xeon-platinum-8481c"),
        ("AMD EPYC 9B14 96-Core Processor", "amd-epyc-9b14"),
        ("NVIDIA H200", "nvidia-h200"),
        ("../../etc", "etc"),
        ("", "unknown"),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert environment.slug(name) == expected


def test_git_describes_a_clean_and_a_changed_checkout(checkout: Path) -> None:
    clean = environment.git(checkout)
    assert len(clean["sha"]) == 40
    assert (clean["dirty"], clean["diff_sha256"], clean["reason"]) == (False, None, None)
    (checkout / "file").write_text("two")
    changed = environment.git(checkout)
    assert changed["sha"] == clean["sha"]
    assert changed["dirty"] is True
    assert len(changed["diff_sha256"]) == 64


def test_git_is_null_outside_a_checkout(tmp_path: Path) -> None:
    facts = environment.git(tmp_path)
    assert facts.pop("reason")
    assert set(facts.values()) == {None}
    assert environment.git(tmp_path / "missing")["reason"]


def test_git_ignores_the_checkout_of_somebody_else(checkout: Path) -> None:
    inside = checkout / "site-packages"
    inside.mkdir()
    facts = environment.git(inside)
    assert (facts["sha"], facts["reason"]) == (None, "not a checkout of dynadiag")


def test_no_git_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    assert environment.git(tmp_path)["reason"] == "git is not installed"
    assert environment.header()["git"]["sha"] is None


def test_a_bare_system_still_has_a_header(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "read", lambda path: None)
    monkeypatch.setattr(processor, "_CACHES", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    header = environment.header()
    assert header["device"]["name"]
    assert header["device"]["cache_bytes"] == {}
    assert header["device"]["isa"] == []
    assert header["host"]["memory_bytes"] is None
    assert header["host"]["load_average"] is None


def test_caches_are_read_in_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = [("Data", "1", "32K"), ("Instruction", "1", "64K"), ("Unified", "2", "2M")]
    for number, (kind, level, size) in enumerate(listed):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for file, text in (("type", kind), ("level", level), ("size", size)):
            (folder / file).write_text(text + "\n")
    monkeypatch.setattr(processor, "_CACHES", tmp_path)
    assert processor.caches() == {"l1": 32 * 2**10, "l2": 2 * 2**20}


@pytest.fixture
def h200(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch as it is on a machine with one card."""
    properties = SimpleNamespace(
        name="NVIDIA H200",
        major=9,
        minor=0,
        multi_processor_count=132,
        L2_cache_size=50 * 2**20,
        total_memory=140 * 2**30,
        uuid=UUID,
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: properties.name)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)


@pytest.mark.usefixtures("h200")
def test_a_card_is_described_by_torch_and_by_its_driver(card: FakeNvml) -> None:
    card.answers["nvmlDeviceGetComputeRunningProcesses_v3"] = [process(os.getpid(), 1)] * 2
    facts = environment.device_facts("cuda", Nvml.open(UUID, library=card))
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["slug"], facts["compute_capability"]) == ("nvidia-h200", "9.0")
    assert facts["foreign_processes"] == 0
    assert facts["nvml"]["driver"] == "580.95.05"
    assert facts["nvml"]["support"]["nvmlDeviceGetPowerUsage"] == "ok"
    assert UUID not in json.dumps(facts)


@pytest.mark.usefixtures("h200")
def test_without_nvml_the_card_is_still_described() -> None:
    facts = environment.device_facts("cuda", NullNvml("Driver Not Loaded"))
    assert (facts["sm_count"], facts["foreign_processes"]) == (132, None)
    assert facts["nvml"]["reason"] == "Driver Not Loaded"
    assert facts["nvml"]["energy_mj"] is None


def switches(allowed: bool) -> dict[str, bool]:
    names = ("tf32", "bf16_reduced_precision_reduction", "fp16_reduced_precision_reduction")
    return {f"allow_{name}": allowed for name in names}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_switches_that_change_precision_are_kept(
    monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(**switches(allowed)))
    flags = environment.torch_flags()
    assert (flags["allow_tf32"], flags["bf16_reduced_precision"]) == (allowed, allowed)


def test_cuda_libraries_are_listed_where_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"nvidia-cusparse": "12.9.1", "cupy-cuda13x": "14.2.0", "nvidia-secret": "1"}
    found = [SimpleNamespace(name=name, version=version) for name, version in installed.items()]
    monkeypatch.setattr("importlib.metadata.distributions", lambda: found)
    libraries = environment.software()["libraries"]
    assert libraries == {"cupy-cuda13x": "14.2.0", "nvidia-cusparse": "12.9.1"}


@pytest.mark.parametrize("value", ["1", "true"])
def test_blocking_launches_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=f"CUDA_LAUNCH_BLOCKING={value} .*unset it"):
        environment.refuse_blocking({"CUDA_LAUNCH_BLOCKING": value})


@pytest.mark.parametrize("environ", [{}, {"CUDA_LAUNCH_BLOCKING": "0"}, {"OTHER": "1"}])
def test_launches_that_do_not_block_are_fine(environ: dict[str, str]) -> None:
    environment.refuse_blocking(environ)
