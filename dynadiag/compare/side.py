"""One of two commits, in an environment of its own, measured by fresh processes."""

from __future__ import annotations

import os
import site
import subprocess
import sysconfig
import tomllib
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dynadiag.bench.records import RecordError, Run, read_run

from .outcome import CompareError, NotMeasurable

# Exit codes of `dynadiag bench` that leave a whole run: all well, and an arm wrong or failed.
MEASURED = (0, 1)
# A thread whose partner was put off waits for it, so on a shared machine two threads scatter 50
# times as much as one. Whoever has cores to spare may ask for more.
THREADS = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Side:
    """A checkout, and the environment that its library runs in.

    Attributes:
        name: base or head.
        checkout: the folder of the repository.
        home: holds the virtual environment and the compiled kernels.
        variables: of its processes, beyond those of this one.
    """

    name: str
    checkout: Path
    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """The interpreter of the environment."""
        return self.home / "venv/bin/python"

    def install(self) -> None:
        """Make the environment: its own library, the third-party packages of this interpreter.

        Nothing is copied, downloaded or built: the library is linked in its installed shape.

        Raises:
            CompareError: the checkout does not say which packages it has.
        """
        venv.EnvBuilder(symlinks=True).create(self.home / "venv")
        scheme = {"base": str(self.home / "venv"), "platbase": str(self.home / "venv")}
        packages = Path(sysconfig.get_path("purelib", "venv", scheme))
        for name, place in _packages(self.checkout).items():
            _link(self.checkout / place, packages.joinpath(*name.split(".")))
        # As plain folders: .pth files in them, such as that of an editable dynadiag, stay unread.
        present = dict.fromkeys((*site.getsitepackages(), site.getusersitepackages()))
        (packages / "third_party.pth").write_text("".join(f"{path}\n" for path in present))

    def measure(self, out: Path, device: str | None = None) -> Run:
        """Run the suites in mode `compare` in a fresh process.

        Args:
            out: a folder for this run alone.
            device: cpu or cuda; by default cuda where there is one.

        Raises:
            NotMeasurable: the process did not get as far as a run.
        """
        words = ["-m", "dynadiag", "bench", "--mode", "compare", "--no-report", "--out", str(out)]
        chosen = [] if device is None else ["--device", device]
        done = subprocess.run(
            [str(self.python), "-P", *words, *chosen],
            cwd=self.checkout,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        runs = [path.parent for path in out.glob("*/run.json")]
        if done.returncode not in MEASURED or not runs:
            raise NotMeasurable(
                f"{self.name}: dynadiag bench ended with {done.returncode}: {_last_line(done)}"
            )
        try:
            return read_run(runs[0])
        except RecordError as error:
            raise CompareError(f"{self.name}: {error}") from error

    def environment(self) -> dict[str, str]:
        """The variables of its processes."""
        own = {"DYNADIAG_CACHE": str(self.home / "cache"), "PYTHONSAFEPATH": "1"}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return THREADS | inherited | own | dict(self.variables)


def _packages(checkout: Path) -> dict[str, str]:
    """Where the packages of a checkout lie, a package before those inside it."""
    path = checkout / "pyproject.toml"
    try:
        tool = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]
        places: dict[str, str] = tool["setuptools"]["package-dir"]
    except (OSError, KeyError, ValueError) as error:
        raise CompareError(f"{path} names no packages: {error!r}") from error
    return dict(sorted(places.items()))


def _link(source: Path, target: Path) -> None:
    """Make a package of links, so that packages kept elsewhere can join it."""
    target.mkdir()
    for each in source.iterdir():
        if each.name != "__pycache__":
            (target / each.name).symlink_to(each)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")
