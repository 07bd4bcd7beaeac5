from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dynadiag.reports import load, measures, style
from dynadiag.reports.figures import DRAWINGS, best_format, break_even, energy, roofline, speedup

Make = Callable[..., Path]
FORWARD = {"dtypes": ("float32",), "directions": ("forward",)}


@pytest.fixture(scope="module")
def frame(make_run: Make) -> pd.DataFrame:
    """Two shapes, two batches, three sparsities, one skipped format and one wrong one."""
    folder = make_run(
        **FORWARD,
        shapes=("768x768", "768x3072"),
        batches=(1, 197),
        sparsities=(0.5, 0.9, 0.95),
        status={"condensed": "wrong"},
        energy=True,
    )
    return load.representatives(load.load(folder).frame)


def one_point(frame: pd.DataFrame) -> pd.DataFrame:
    case = frame[frame["sparsity"] == 0.9]["case_id"].iloc[0]
    return frame[(frame["case_id"] == case) & frame["format"].isin(["dense", "diagonal"])]


def all_skipped(frame: pd.DataFrame) -> pd.DataFrame:
    gone = frame.assign(status="skipped", reason="not on this machine", speedup_verdict="")
    gone[list(measures.MEASURES)] = np.nan
    return gone


def with_holes(frame: pd.DataFrame) -> pd.DataFrame:
    holes = frame.copy()
    holes.loc[holes.index[::3], ["time", "speedup", "speedup_lo", "weight_bytes"]] = np.nan
    holes[["bandwidth", "ceiling"]] = np.nan
    return holes


FRAMES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "whole": lambda frame: frame,
    "empty": lambda frame: frame.head(0),
    "one_point": one_point,
    "all_skipped": all_skipped,
    "holes": with_holes,
    "one_shape": lambda frame: frame[frame["shape"] == "768x768"],
    "suspect": lambda frame: frame.assign(suspect=True, speedup_verdict="AMBIGUOUS"),
}


def settings() -> dict[str, object]:
    """Matplotlib's global settings, but for the backend, which it chooses on first use."""
    return {name: value for name, value in matplotlib.rcParams.items() if name != "backend"}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("name", DRAWINGS)
def test_every_figure_draws_every_frame(frame: pd.DataFrame, name: str, kind: str) -> None:
    part = FRAMES[kind](frame)
    before = settings()

    figure = DRAWINGS[name].figure(part, style.DARK)

    assert settings() == before
    assert to_hex(figure.get_facecolor()) == style.DARK.paper
    figure.draw_without_rendering()
    assert bool(figure.axes) == (not DRAWINGS[name].points(part).empty)


@pytest.mark.parametrize("name", DRAWINGS)
def test_points_do_not_change_the_frame(frame: pd.DataFrame, name: str) -> None:
    before = frame.copy()

    assert not DRAWINGS[name].points(frame).empty

    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: str(theme.name))
@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_leaves_the_sheet_or_meets_another(
    frame: pd.DataFrame, name: str, theme: style.Theme
) -> None:
    figure = DRAWINGS[name].figure(frame, theme)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    boxes = visible_text(figure)

    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for place, (text, box) in enumerate(boxes):
        met = [other for other, its in boxes[place + 1 :] if overlap(box, its)]
        assert not met, f"{text!r} meets {met}"


def visible_text(figure: Figure) -> list[tuple[str, matplotlib.transforms.Bbox]]:
    """Title, note, panel titles, axis labels and tick labels; not the text inside panels."""
    texts = list(figure.texts)
    for legend in figure.legends:
        texts += legend.get_texts()
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label] if axes.axison else []
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            shown = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            texts += [tick.label1 for tick in shown if tick.label1.get_visible()]
    return [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text().strip()]


def overlap(one: matplotlib.transforms.Bbox, two: matplotlib.transforms.Bbox) -> bool:
    across = min(one.x1, two.x1) - max(one.x0, two.x0)
    along = min(one.y1, two.y1) - max(one.y0, two.y0)
    return bool(across > 1 and along > 1)


def test_the_speedup_figure_has_a_panel_a_shape_and_batch(frame: pd.DataFrame) -> None:
    figure = speedup.figure(frame, style.LIGHT)

    assert [axes.get_title() for axes in figure.axes[:2]] == ["768 → 768", "768 → 3072"]
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["batch 1", "batch 197"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["diagonal", "CSR"]
    assert "limit 1/(1−s)" in labels
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert "1×" in ticks


def test_a_wrong_arm_is_a_letter_and_never_a_line(frame: pd.DataFrame) -> None:
    shown = speedup.points(frame)
    wrong = shown[shown["format"] == "condensed"]
    assert len(wrong) == 12
    assert wrong["speedup"].isna().all()

    figure = speedup.figure(frame, style.LIGHT)
    letters = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert letters.count("W") == 12
    orange = style.look("condensed", style.LIGHT).colour
    assert orange not in [line.get_color() for axes in figure.axes for line in axes.lines]


def test_single_sparsities_stay_out_of_the_small_multiples(frame: pd.DataFrame) -> None:
    lone = (frame["batch"] == 1) & (frame["sparsity"] != 0.9)

    assert set(speedup.points(frame[~lone])["batch"]) == {197}
    assert set(break_even.points(frame[~lone])["batch"]) == {1, 197}


def test_an_ambiguous_cell_is_hatched(frame: pd.DataFrame) -> None:
    undecided = frame.assign(speedup_verdict="AMBIGUOUS")

    def hatched(part: pd.DataFrame) -> int:
        figure = break_even.figure(part, style.LIGHT)
        return sum(bool(p.get_hatch()) for axes in figure.axes for p in axes.patches)

    assert hatched(frame.assign(speedup_verdict="FASTER")) == 0
    assert hatched(undecided) == len(undecided[undecided["speedup"] > 0])


def test_the_best_format_is_the_fastest_and_ties_are_marked(frame: pd.DataFrame) -> None:
    shown = best_format.points(frame).set_index("case_id")
    least = frame.groupby("case_id")["time"].min()

    assert (shown["time"] == least[shown.index]).all()
    close = best_format.points(frame.assign(time_lo=0.0))
    assert close["close"].all()


def test_roofline_counts_useful_work_only(frame: pd.DataFrame) -> None:
    shown = roofline.points(frame)
    one = shown[(shown["format"] == "diagonal") & (shown["batch"] == 197)].iloc[0]
    source = frame.loc[one.name]

    flop = 2 * source["nnz"] * 197
    moved = source["weight_bytes"] + 4 * 197 * (source["in_features"] + source["out_features"])
    assert one["rate"] == pytest.approx(flop / source["time"])
    assert one["intensity"] == pytest.approx(flop / moved)


def test_energy_ratio_is_dense_over_format(frame: pd.DataFrame) -> None:
    shown = energy.points(frame)
    one = shown[shown["format"] == "diagonal"].iloc[0]
    case = frame[frame["case_id"] == one["case_id"]].set_index("format")["energy"]

    assert one["saving"] == pytest.approx(case["dense"] / case["diagonal"])


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_suspect_run_gets_titles_without_a_claim(frame: pd.DataFrame, name: str) -> None:
    part = FRAMES["suspect"](frame)

    title = DRAWINGS[name].figure(part, style.LIGHT).texts[0].get_text()

    assert not any(word in title for word in ("runs at", "overtakes", "fastest:", "within"))


def test_names_from_records_are_not_read_as_mathematics(frame: pd.DataFrame) -> None:
    hostile = frame.assign(device=r"$\frac{$ <b>", shape=r"$\x$")

    speedup.figure(hostile, style.LIGHT).savefig(io.BytesIO(), format="svg")
