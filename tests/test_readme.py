"""What the README shows, runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def run(number: int) -> dict[str, Any]:
    """Run one of the examples, as a reader would paste it."""
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)[number], names)
    return names


def test_the_library_in_ten_lines_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(0)
    assert "diagonal" in capsys.readouterr().out
    assert names["y"].shape == (8, 768)


def test_sparse_training_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(1)
    assert "skipped: excluded" in capsys.readouterr().out
    assert names["scheduler"].last_step == 20
    kinds = {type(module).__name__ for module in names["model"].modules()}
    assert "Linear" in kinds
    assert not {kind for kind in kinds if "Diagonal" in kind}


def test_the_files_it_shows_exist() -> None:
    places = re.findall(r'(?:srcset|src)="([^"]+)"', README) + re.findall(
        r"\]\(([\w/.-]+)\)", README
    )
    assert places
    for place in places:
        assert (Path(__file__).parents[1] / place).exists(), place
