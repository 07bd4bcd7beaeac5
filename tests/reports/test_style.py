from __future__ import annotations

import pytest

from dynadiag.reports import layout, style


def test_formats_differ_in_colour_marker_and_dash() -> None:
    for part in ("colour", "marker", "dash"):
        values = [str(getattr(look, part)) for look in style.LOOKS.values()]
        assert len(set(values)) == len(values), part


def test_a_format_of_a_later_version_still_has_a_look() -> None:
    assert style.look("monarch", style.LIGHT).name == "monarch"


@pytest.mark.parametrize(
    ("power", "text"), [(-2, "1/4×"), (-1, "½×"), (0, "1×"), (3, "8×"), (0.5, "")]
)
def test_powers_of_two_read_as_ratios(power: float, text: str) -> None:
    assert layout.power_of_two(power) == text


def test_halving_the_weights_is_one_step() -> None:
    steps = layout.density_steps(0.95) - layout.density_steps(0.9)
    assert steps == pytest.approx(1)
