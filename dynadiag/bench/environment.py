"""What a run ran on: the header of its record.

Nothing here raises: what cannot be found out is null. Nothing personal is kept: hosts are hashed,
folders are cut from paths, environment variables come from an allow-list.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from dynadiag.bench import processor
from dynadiag.bench.nvml import Nvml
from dynadiag.bench.schema import SCHEMA_VERSION
from dynadiag.bench.watch import foreign_processes

ROOT = Path(__file__).resolve().parents[2]

_PACKAGES = (
    "dynadiag",
    "numpy",
    "pandas",
    "matplotlib",
    "pytest",
    "pytest-benchmark",
    "nvidia-ml-py",
    "triton",
)
# Named by CUDA's major version or by none; only those installed are listed.
_CUDA_LIBRARIES = re.compile(
    r"cupy-cuda\d+x|nvmath-python|nvidia-(cublas|cusparse|cusparselt|cudnn|cuda-nvrtc)(-cu\d+)?"
)
_VARIABLES = re.compile(
    r"(CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|LAUNCH_BLOCKING)|NVIDIA_TF32_OVERRIDE"
    r"|CUBLAS_WORKSPACE_CONFIG|(OMP|KMP|GOMP|MKL|ONEDNN|DNNL|MALLOC)_\w+|LD_PRELOAD"
    r"|ATEN_CPU_CAPABILITY|PYTORCH_\w+|TORCH_?\w*|TRITON_\w+|DYNADIAG_\w+)"
)


def header(
    *,
    mode: str = "quick",
    seed: int = 0,
    device: str = "cpu",
    argv: Sequence[str] | None = None,
    root: Path = ROOT,
) -> dict[str, Any]:
    """The header of a run that starts now; callers add what they know with `update_header`.

    Args:
        mode: ``quick`` or ``full``.
        seed: of the run.
        device: ``cpu`` or ``cuda``, the one measured.
        argv: command line, by default this process's.
        root: the checkout whose commit is recorded.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": str(uuid.uuid4()),
        "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": mode,
        "argv": [without_folders(argument) for argument in (sys.argv if argv is None else argv)],
        "seed": seed,
        "git": git(root),
        "device": device_facts(device),
        "host": host_facts(),
        "software": software(),
        "torch_flags": torch_flags(),
        "env": variables(os.environ),
    }


def device_slug(device: str = "cpu") -> str:
    """A name for folders: ``amd-epyc-2c`` for two cores, ``nvidia-h200`` for a GPU."""
    if device == "cuda":
        return slug(torch.cuda.get_device_name())
    return f"{slug(processor.name())}-{processor.usable_cores()}c"


def slug(name: str) -> str:
    """Lower-case words of a product name without marks, frequency and generic words."""
    name = re.sub(r"\((r|tm|c)\)|@.*|\b(cpu|processor|\d+-core)\b", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9]+", name)) or "unknown"


def without_folders(text: str) -> str:
    """`text` with every absolute path cut down to its last part."""
    return re.sub(r"(?<![\w.~/])/(?:[^/\s:;,=]+/)+", "", text)


def git(root: Path) -> dict[str, Any]:
    """Commit of the checkout at `root`: sha, branch, describe, dirty, hash of the changes."""
    facts: dict[str, Any] = dict.fromkeys(("sha", "branch", "describe", "dirty", "diff_sha256"))
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != root.resolve():  # installed inside somebody else's checkout
            return facts | {"reason": "not a checkout of dynadiag"}
        dirty = bool(_git(root, "status", "--porcelain"))
        return {
            "sha": _git(root, "rev-parse", "HEAD"),
            "branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD"),
            "describe": _git(root, "describe", "--always", "--dirty"),
            "dirty": dirty,
            "diff_sha256": _hash(_git(root, "diff", "HEAD")) if dirty else None,
            "reason": None,
        }
    except FileNotFoundError:
        return facts | {"reason": "git is not installed"}
    except (OSError, subprocess.SubprocessError):
        return facts | {"reason": "no commit, or not a checkout"}


def device_facts(device: str, nvml: Nvml | None = None) -> dict[str, Any]:
    """Type, name and slug of the measured device, and the sizes that matter to kernels.

    Args:
        device: ``cpu`` or ``cuda``.
        nvml: whom to ask about the card, by default the driver.
    """
    facts: dict[str, Any] = {"type": device, "slug": device_slug(device)}
    if device == "cuda":
        card = torch.cuda.get_device_properties(torch.cuda.current_device())
        nvml = nvml or Nvml.open()
        return facts | {
            "name": card.name,
            "compute_capability": f"{card.major}.{card.minor}",
            "sm_count": card.multi_processor_count,
            "l2_bytes": getattr(card, "L2_cache_size", None),
            "memory_bytes": card.total_memory,
            "uuid_sha256": _hash(str(card.uuid))[:12],
            "foreign_processes": foreign_processes(nvml),
            "nvml": nvml.facts(),
        }
    return facts | {
        "name": processor.name(),
        "cores": processor.usable_cores(),
        "cache_bytes": processor.caches(),
        "isa": processor.instruction_sets(),
    }


def host_facts() -> dict[str, Any]:
    """Processor, memory, load and operating system."""
    return {
        "cpu": processor.name(),
        "cores_logical": os.cpu_count(),
        "cores_usable": processor.usable_cores(),
        "governor": processor.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": processor.memory_bytes(),
        "load_average": processor.load_average(),
        "system": platform.system(),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "container": Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
        "hostname_sha256": _hash(platform.node())[:12],
    }


def software() -> dict[str, Any]:
    """Versions, null where not installed."""
    versions: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {"torch_git": torch.version.git_version, "cuda": torch.version.cuda}
    for package in _PACKAGES:
        versions[package.replace("-", "_")] = None
        with suppress(metadata.PackageNotFoundError):
            versions[package.replace("-", "_")] = metadata.version(package)
    return versions | {"cudnn": torch.backends.cudnn.version(), "libraries": _cuda_libraries()}


def torch_flags() -> dict[str, Any]:
    """Threads and the switches that change which kernel runs or how exactly."""
    return {
        "num_threads": torch.get_num_threads(),
        "num_interop_threads": torch.get_num_interop_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "bf16_reduced_precision": torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "fp16_reduced_precision": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),
        "mkldnn": torch.backends.mkldnn.is_available(),
    }


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that steer threads, allocators and kernels; never the whole environment."""
    names: Iterable[str] = sorted(filter(_VARIABLES.fullmatch, environ))
    return {name: without_folders(environ[name]) for name in names}


def refuse_blocking(environ: Mapping[str, str]) -> None:
    """Stop before a run in which every launch would wait for its kernel.

    Raises:
        ValueError: if ``CUDA_LAUNCH_BLOCKING`` is on.
    """
    value = environ.get("CUDA_LAUNCH_BLOCKING", "")
    if value not in ("", "0"):
        raise ValueError(
            f"CUDA_LAUNCH_BLOCKING={value} has every launch wait for its kernel, so no time would "
            "be that of a network: unset it"
        )


def _cuda_libraries() -> dict[str, str]:
    found = ((str(each.name).lower(), each.version) for each in metadata.distributions())
    return {name: version for name, version in sorted(found) if _CUDA_LIBRARIES.fullmatch(name)}


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *command],
        capture_output=True,
        check=True,
        timeout=10,
        env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
    )
    return done.stdout.decode(errors="replace").strip()


def _distribution() -> str | None:
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
