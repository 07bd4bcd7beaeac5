"""The tasks of the project: `nox -s bench`, `nox -s tests`, and those below.

Environments are kept and installed once; `nox --no-venv` uses the Python that runs nox as it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
CONSTRAINTS = ROOT / "constraints.txt"
# The oldest driver that each extra of the library works with, newest first.
DRIVERS = {580: "cuda13", 525: "cuda12"}


def prepare(session: nox.Session, *requirements: str) -> None:
    """Install `requirements`, unless this environment holds them since an earlier call.

    Python leaves the current folder off its path from here on: the folder `kernels` of the
    repository must not be importable under that name, which another package has.
    """
    session.env["PYTHONSAFEPATH"] = "1"
    if not session.virtualenv.is_sandboxed:
        return
    decisive = json.dumps([PYPROJECT, CONSTRAINTS.read_text(), requirements])
    digest = hashlib.sha256(decisive.encode()).hexdigest()
    stamp = Path(session.virtualenv.location) / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return
    if stamp.exists():  # another driver may ask for another CuPy, and two spoil each other
        session.run("pip", "uninstall", "--yes", "--quiet", "cupy-cuda12x", "cupy-cuda13x")
    session.install(*requirements, "--constraint", str(CONSTRAINTS))
    stamp.write_text(digest)


def driver() -> int:
    """The first number of the version of NVIDIA's driver; 0 without one."""
    if shutil.which("nvidia-smi") is None:
        return 0
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    printed = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    first = printed.split(".")[0]
    return int(first) if first.isdigit() else 0


def cuda() -> list[str]:
    """The extra that fits the driver, or none."""
    present = driver()
    return [extra for oldest, extra in DRIVERS.items() if present >= oldest][:1]


def library() -> tuple[str, ...]:
    """The library, with what this machine can use of it."""
    return ("-e", f".[{','.join(['bench', 'report', 'train', *cuda()])}]")


def group(name: str) -> tuple[str, ...]:
    """The requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def test_group() -> tuple[str, ...]:
    """What the tests need; where an extra of the library brings CuPy, no second one."""
    brought = group("nvrtc") if cuda() else ()
    return tuple(needed for needed in group("test") if needed not in brought)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and types of the library, the suites and the tests."""
    prepare(session, *library(), *test_group(), *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    types = mirror(Path(session.create_tmp()) / "types")
    session.run(
        "mypy", str(types), "suites", "tests", "noxfile.py", env={"MYPYPATH": str(types.parent)}
    )


def mirror(folder: Path) -> Path:
    """Copy the library into `folder` in its installed shape.

    Type checkers cannot follow the mapping of `kernels/` to `dynadiag.kernels`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    unread = shutil.ignore_patterns("__pycache__")
    places = PYPROJECT["tool"]["setuptools"]["package-dir"]
    for package, place in places.items():
        shutil.copytree(ROOT / place, folder.joinpath(*package.split(".")), ignore=unread)
    return folder / "dynadiag"


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests that need no GPU and take minutes in all."""
    prepare(session, *library(), *test_group())
    session.run("pytest", "-m", "not gpu and not slow", "--benchmark-quiet", *session.posargs)


@nox.session(default=False)
def tests_slow(session: nox.Session) -> None:
    """Run the slow tests: sanitizers, other vector widths, the compiler."""
    prepare(session, *library(), *test_group())
    session.run("pytest", "-m", "slow and not gpu", "--benchmark-quiet", *session.posargs)


@nox.session(default=False)
def tests_gpu(session: nox.Session) -> None:
    """Run the tests that need a CUDA device."""
    prepare(session, *library(), *test_group())
    session.run("pytest", "-m", "gpu", "--benchmark-quiet", *session.posargs)


@nox.session(default=False)
def smoke(session: nox.Session) -> None:
    """Run every suite once, without timing."""
    prepare(session, *library())
    session.run("pytest", "suites", "--mode", "smoke", "--benchmark-disable", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure the layers on this machine and write the report: `-- --mode full -k 768x3072`."""
    prepare(session, *library())
    # After Ctrl-C the current kernel ends and the records are closed, before nox kills anything.
    session.run("python", "-m", "dynadiag", "bench", *session.posargs, interrupt_timeout=60)


@nox.session(default=False)
def accuracy(session: nox.Session) -> None:
    """Train with every method, with many seeds, and write the report: `-- --mode full`."""
    prepare(session, *library())
    session.run("python", "-m", "dynadiag", "accuracy", *session.posargs, interrupt_timeout=60)


@nox.session(default=False)
def report(session: nox.Session) -> None:
    """Turn runs into one page with figures: `-- results/runs/NAME`."""
    prepare(session, *library())
    session.run("python", "-m", "dynadiag", "report", *session.posargs)


@nox.session(default=False)
def compare(session: nox.Session) -> None:
    """Measure this tree against its merge base; `-- --base REV` or `-- RUN` for something else.

    That a machine is too noisy to tell (exit code 3) is no failure, but without the GPU that
    `--require-gpu` asks for it is.
    """
    prepare(session, *library())
    words = [*session.posargs]
    if "--base" not in words and (not words or words[0].startswith("-")):
        words += ["--base", merge_base(session)]
    good = [0] if "--require-gpu" in words else [0, 3]
    command = ("python", "-m", "dynadiag", "compare", *words)
    session.run(*command, success_codes=good, interrupt_timeout=60)


def merge_base(session: nox.Session) -> str:
    """The commit where this branch left the main one."""
    for main in ("origin/main", "main"):
        command = ["git", "-C", str(ROOT), "merge-base", "HEAD", main]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    session.error("no merge base with origin/main or main: name a commit, `-- --base REV`")


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel alone, and test what it holds."""
    if not session.virtualenv.is_sandboxed:
        session.skip("it installs the wheel, which needs an environment of its own")
    prepare(session, *PYPROJECT["project"]["dependencies"], *group("build"))
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("pyproject-build", "--outdir", str(dist))
    session.install("--no-deps", "--force-reinstall", *map(str, dist.glob("*.whl")))
    session.run("pytest", "tests/test_packaging.py", *session.posargs)
