"""Every figure of the accuracy suite, over whole, thin and broken frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dynadiag.reports import load, methods, style
from dynadiag.reports.figures import (
    TRACED,
    TRADED,
    TRAINED,
    differences,
    pareto,
    quality,
)
from dynadiag.reports.load import Records

Make = Callable[..., Path]
DRAWINGS = {**TRAINED, **TRADED, **TRACED}
TIMES = {
    "shapes": ("768x768", "768x3072"),
    "batches": (197,),
    "sparsities": (0.8, 0.9, 0.95, 0.99),
    "dtypes": ("float32",),
    "directions": ("forward",),
}


@pytest.fixture(scope="module")
def records(make_training: Make) -> Records:
    return load.load(make_training(looks=12))


@pytest.fixture(scope="module")
def speeds(make_run: Make) -> pd.DataFrame:
    return pareto.speeds(load.load(make_run(**TIMES)).frame)


@pytest.fixture(scope="module")
def frames(records: Records, speeds: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The frame that each figure is drawn from."""
    traded = pareto.joined(records.accuracy, speeds)
    return {
        **dict.fromkeys(TRAINED, records.accuracy),
        **dict.fromkeys(TRADED, traded),
        **dict.fromkeys(TRACED, records.traces),
    }


def unfinished(frame: pd.DataFrame) -> pd.DataFrame:
    """Nothing came to its end; traces without what only some methods keep."""
    if "value" in frame:
        return frame.assign(status="failed", value=np.nan, rigl=np.nan)
    return frame.assign(active=[a[:0] for a in frame["active"]]).head(0)


def one_seed(frame: pd.DataFrame) -> pd.DataFrame:
    ends = [name for name in frame if name.endswith(("_lo", "_hi", "_p"))]
    return frame.assign(**dict.fromkeys(ends, np.nan))


def few(frame: pd.DataFrame) -> pd.DataFrame:
    """Two tasks and two sparsities, to be drawn faster."""
    kept = frame["task"].isin(["digits-mlp", "text-gpt"])
    return frame[kept & frame["sparsity"].isin([0.0, 0.9, 0.99])] if "sparsity" in frame else frame


KINDS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "empty": lambda frame: frame.head(0),
    "unfinished": unfinished,
    "one_seed": one_seed,
    "one_method": lambda frame: frame[frame["method"] == "dynadiag"],
    "one_task": lambda frame: frame[frame["task"] == "digits-mlp"],
    "unknown_method": lambda frame: frame.replace({"method": {"dynadiag": "of_tomorrow"}}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DRAWINGS)
def test_every_figure_draws_every_frame(
    frames: dict[str, pd.DataFrame], name: str, kind: str
) -> None:
    part = KINDS[kind](few(frames[name]))

    figure = DRAWINGS[name].figure(part, style.DARK)

    assert to_hex(figure.get_facecolor()) == style.DARK.paper
    figure.draw_without_rendering()
    assert bool(figure.axes) == (not DRAWINGS[name].points(part).empty)


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_leaves_the_sheet_or_meets_another(
    frames: dict[str, pd.DataFrame], name: str
) -> None:
    figure = DRAWINGS[name].figure(frames[name], style.LIGHT)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    boxes = visible_text(figure)

    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
    for place, (text, box) in enumerate(boxes):
        met = [other for other, its in boxes[place + 1 :] if meets(box, its)]
        assert not met, f"{text!r} meets {met}"


def visible_text(figure: Figure) -> list[tuple[str, Bbox]]:
    """Title, note, legend, panel titles, axis and tick labels; not the text inside panels."""
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


def meets(one: Bbox, two: Bbox) -> bool:
    across = min(one.x1, two.x1) - max(one.x0, two.x0)
    along = min(one.y1, two.y1) - max(one.y0, two.y0)
    return bool(across > 1 and along > 1)


def test_methods_differ_in_colour_marker_and_dash() -> None:
    for part in ("colour", "marker", "dash", "name", "short"):
        values = [str(getattr(look, part)) for look in methods.LOOKS.values()]
        assert len(set(values)) == len(values), part


def test_a_panel_a_task_with_dense_as_a_band(records: Records) -> None:
    figure = quality.figure(records.accuracy, style.LIGHT)

    assert [axes.get_title() for axes in figure.axes] == list(records.accuracy["task"].unique())
    assert figure.axes[0].get_ylabel() == "test accuracy, %"
    assert figure.axes[3].get_ylabel() == "test loss, nat"
    assert len(figure.legends[0].get_texts()) == 12
    assert all(len(axes.patches) == 1 for axes in figure.axes)


def test_the_best_has_most_accuracy_or_least_loss(records: Records) -> None:
    for task, least in (("digits-mlp", False), ("text-gpt", True)):
        part = records.accuracy[
            (records.accuracy["task"] == task) & (records.accuracy["sparsity"] == 0.9)
        ]
        extreme = part["value"].min() if least else part["value"].max()
        assert quality.best(part)["value"] == extreme


def test_two_seeds_do_not_flatten_the_lines(records: Records) -> None:
    wide = records.accuracy.assign(
        value_lo=records.accuracy["value"] - 0.4, value_hi=records.accuracy["value"] + 0.4
    )

    axes = quality.figure(wide, style.LIGHT).axes[0]

    means = quality.points(wide).query("task == 'digits-mlp'")["value"]
    low, high = (1 - 2.0**-y for y in axes.get_ylim())
    assert means.min() - 0.2 < low < means.min() < means.max() < high < 1


def test_differences_lie_right_of_the_line_where_better(records: Records) -> None:
    frame = records.accuracy.assign(rigl_lo=-0.01, rigl_hi=-0.005, rigl=-0.0075, margin=0.003)
    figure = differences.figure(frame, style.LIGHT)

    def marks(row: int) -> set[float]:
        places = [np.asarray(line.get_xdata()) for line in figure.axes[4 * row].lines]
        return {float(np.sign(place[0])) for place in places if place.size == 1}

    assert marks(0) == {-1.0}
    assert marks(3) == {1.0}


def test_what_lies_outside_a_panel_is_an_arrow_with_its_value(records: Records) -> None:
    frame = records.accuracy
    far = frame["method"] == "pixelated_butterfly"
    frame = frame.assign(rigl=frame["rigl"].mask(far, -0.5 * frame["rigl"].notna()))

    texts = [t.get_text() for t in differences.figure(frame, style.LIGHT).axes[0].texts]

    assert "−50" in texts


def test_speeds_are_geometric_means_over_the_layers(make_run: Make) -> None:
    frame = load.load(make_run(**TIMES)).frame
    own = frame[(frame["arm"] == "diagonal") & (frame["sparsity"] == 0.9)]["speedup"]

    found = pareto.speeds(frame).set_index(["format", "sparsity"]).loc[("diagonal", 0.9)]

    assert found["speed"] == pytest.approx(np.exp(np.log(own).mean()))
    assert found["layers"] == 2


def test_a_suspect_run_lends_no_speed(make_run: Make) -> None:
    assert pareto.speeds(load.load(make_run(**TIMES, header={"suspect": True})).frame).empty


def test_a_point_is_beaten_by_one_that_is_better_in_both(frames: dict[str, pd.DataFrame]) -> None:
    shown = pareto.points(frames["pareto"])

    for _, part in shown.groupby("task"):
        sign = -1 if part["metric"].iloc[0] == "loss" else 1
        kept = part[~part["beaten"]].sort_values("speed")
        assert (np.diff(sign * kept["value"]) <= 0).all()
        assert "dense" in set(kept["method"])
    assert shown["beaten"].any()
