"""What is installed: the packages, their data, and no name that belongs to others."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PYPROJECT["tool"]["setuptools"]
PLACES = {"dynadiag": "dynadiag", "dynadiag.kernels": "kernels", "dynadiag.reports": "reports"}


def packages_in_tree() -> dict[str, Path]:
    return {
        ".".join([package, *init.parent.relative_to(ROOT / place).parts]): init.parent
        for package, place in PLACES.items()
        for init in (ROOT / place).rglob("__init__.py")
    }


def files_in_tree(place: str) -> list[Path]:
    files = (path for path in (ROOT / place).rglob("*") if path.is_file())
    return [path for path in files if "__pycache__" not in path.parts]


def installed(package: str) -> Path:
    """The folder of one of PLACES, found without importing it: its optional needs may be absent."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@pytest.mark.parametrize("name", ["kernels", "reports"])
def test_top_level_name_is_not_ours(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is None or "site-packages" in (spec.origin or "")


def test_package_list_matches_the_tree() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages_in_tree())


def test_package_places_match_the_tree() -> None:
    assert SETUPTOOLS["package-dir"] == PLACES


def test_tests_and_suites_are_no_packages() -> None:
    inits = [path for name in ("tests", "suites") for path in (ROOT / name).rglob("__init__.py")]
    assert inits == []
    assert not (ROOT / "conftest.py").exists()


def test_every_data_file_is_declared() -> None:
    data = {path for place in PLACES.values() for path in files_in_tree(place)}
    folders = packages_in_tree()
    declared = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in folders[package].glob(pattern)
    }
    assert {path for path in data if path.suffix != ".py"} == declared


@pytest.mark.parametrize("package", sorted(PLACES))
def test_every_file_is_installed(package: str) -> None:
    place = PLACES[package]
    files = [path.relative_to(ROOT / place) for path in files_in_tree(place)]
    assert [path for path in files if not (installed(package) / path).is_file()] == []


def test_version_is_that_of_pyproject() -> None:
    assert version("dynadiag") == PYPROJECT["project"]["version"]


def test_import_needs_torch_and_numpy_only() -> None:
    optional = ["cupy", "jinja2", "matplotlib", "pandas", "pytest", "scipy", "tqdm"]
    code = f"import sys; sys.modules.update(dict.fromkeys({optional!r})); import dynadiag"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
