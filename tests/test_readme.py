"""What the README shows, runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_library_in_ten_lines_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)  # our own file, as a reader would paste it
    assert "diagonal" in capsys.readouterr().out
    assert names["y"].shape == (8, 768)  # type: ignore[attr-defined]


def test_the_files_it_shows_exist() -> None:
    places = re.findall(r'(?:srcset|src)="([^"]+)"', README) + re.findall(
        r"\]\(([\w/.-]+)\)", README
    )
    assert places
    for place in places:
        assert (Path(__file__).parents[1] / place).exists(), place
