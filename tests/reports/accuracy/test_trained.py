from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dynadiag.bench.seeds import difference
from dynadiag.reports import load, trained
from dynadiag.reports.load import Records

Make = Callable[..., Path]
SMALL = {"tasks": ("digits-mlp", "text-gpt"), "sparsities": (0.9, 0.99)}
FEW = {"tasks": ("digits-mlp",), "sparsities": (0.9,), "methods": ("dense", "rigl", "dynadiag")}


@pytest.fixture(scope="module")
def records(make_training: Make) -> Records:
    return load.load(make_training(**SMALL))


def test_accuracy_stays_out_of_the_frame_of_times(records: Records) -> None:
    assert records.frame.empty
    assert records.failures.empty
    assert records.checks.empty


def test_a_row_is_one_method_at_one_sparsity_of_one_task(records: Records) -> None:
    frame = records.accuracy

    assert not frame.duplicated(["task", "sparsity", "method"]).any()
    assert len(frame) == 2 * 2 * 12
    assert trained.tasks(frame) == ["digits-mlp", "text-gpt"]
    assert (frame["value_lo"] <= frame["value"]).all()
    assert set(frame["value_n"]) == {5.0}
    assert set(frame["seconds"]) == {6.0}


def test_differences_are_those_of_the_seeds(make_training: Make) -> None:
    folder = make_training(**FEW)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    seeds = {
        name: [row["value"] for row in rows if (row["arm"], row["stat"]) == (name, "seed")]
        for name in ("dynadiag", "rigl")
    }
    expected = difference(seeds["dynadiag"], seeds["rigl"])

    frame = load.load(folder).accuracy.set_index("method")

    own = frame.loc["dynadiag"]
    found = own[["rigl", "rigl_lo", "rigl_hi", "rigl_p"]].astype(float)
    assert list(found) == pytest.approx([expected.value, expected.lo, expected.hi, expected.p])
    assert np.isnan(frame.loc["rigl", "rigl"])
    assert frame.loc["rigl", "rigl_verdict"] == ""


def test_less_loss_is_better(records: Records) -> None:
    text = records.accuracy[records.accuracy["task"] == "text-gpt"].set_index("method")

    assert (text.loc["dense", "rigl"] < 0).all()
    assert set(text.loc["dense", "rigl_verdict"]) == {trained.BETTER}
    assert set(text.loc["pixelated_butterfly", "rigl_verdict"]) == {trained.WORSE}


def test_one_seed_decides_nothing(make_training: Make) -> None:
    frame = load.load(make_training(**FEW, seeds=1)).accuracy

    assert frame["value_lo"].isna().all()
    assert set(frame["rigl_verdict"]) == {"", trained.OPEN}


def test_margins_are_points_of_accuracy_and_a_share_of_the_loss_of_rigl(records: Records) -> None:
    frame = records.accuracy[records.accuracy["method"] == "dynadiag"]
    margins = frame.set_index(["task", "sparsity"])["margin"]
    text = records.accuracy[records.accuracy["task"] == "text-gpt"]
    rigl = text.set_index(["method", "sparsity"]).loc[("rigl", 0.9), "value"]

    assert margins["digits-mlp", 0.9] == pytest.approx(0.003)
    assert margins["digits-mlp", 0.99] == pytest.approx(0.005)
    assert margins["text-gpt", 0.9] == pytest.approx(0.01 * rigl)


def test_a_method_that_failed_keeps_its_reason_and_no_number(make_training: Make) -> None:
    frame = load.load(make_training(**FEW, failing=("dynadiag",))).accuracy

    (lost,) = trained.failures(frame).itertuples()
    assert (lost.method, lost.status) == ("dynadiag", "failed")
    assert "see the logs" in lost.reason
    assert set(trained.done(frame)["method"]) == {"dense", "rigl"}


def test_searches_are_kept_by_rate(records: Records) -> None:
    own = records.searches[
        (records.searches["method"] == "dynadiag") & (records.searches["task"] == "digits-mlp")
    ]

    assert list(own["rate"][:3]) == [1e-3, 3e-3, 1e-2]
    assert own["found"].iloc[0].startswith("validation loss 0.301")


@pytest.mark.parametrize(
    ("metric", "value", "gap"),
    [("accuracy", "97.1 %", "−0.12"), ("loss", "0.971 nat", "−0.001")],
)
def test_scores_are_written_as_people_read_them(metric: str, value: str, gap: str) -> None:
    score = trained.SCORES[metric]

    assert score.value(0.971) == value
    assert score.signed(-0.0012) == gap
    assert score.half(np.nan, np.nan) == score.between(np.nan, np.nan) == ""


def test_different_numbers_of_seeds_are_a_range(records: Records) -> None:
    frame = records.accuracy
    assert trained.seeds(frame) == "5 seeds"
    assert trained.seeds(frame.assign(value_n=[8.0, *frame["value_n"][1:]])) == "5 to 8 seeds"
    assert trained.seeds(frame.head(0)) == "0 seeds"
