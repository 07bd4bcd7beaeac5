from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dynadiag.bench.records import RecordError
from dynadiag.reports import load

Make = Callable[..., Path]
SMALL = {"shapes": ("768x768",), "batches": (1, 197), "sparsities": (0.5, 0.95)}


def test_a_row_of_the_frame_is_one_arm_of_one_case(make_run: Make) -> None:
    records = load.load(make_run(**SMALL))

    frame = records.frame
    assert not frame.duplicated(["case_id", "arm"]).any()
    assert len(frame) == frame["case_id"].nunique() * frame["arm"].nunique()
    diagonal = frame[(frame["arm"] == "diagonal") & (frame["sparsity"] == 0.5)].iloc[0]
    assert diagonal["speedup_lo"] < diagonal["speedup"] < diagonal["speedup_hi"]
    assert diagonal["speedup_verdict"] in {"FASTER", "SAME", "SLOWER", "AMBIGUOUS"}
    assert diagonal["csr_speedup"] != diagonal["speedup"]
    assert diagonal["weight_bytes"] == 768 * 768 * 0.5 * 4


def test_skipped_arms_keep_their_reason_and_no_number(make_run: Make) -> None:
    frame = load.load(make_run(**SMALL)).frame

    skipped = frame[(frame["arm"] == "nm") & (frame["sparsity"] == 0.95)]
    assert set(skipped["status"]) == {"skipped"}
    assert skipped["reason"].str.contains("divisible").all()
    assert skipped["time"].isna().all()


def test_ceilings_of_the_header_travel_with_the_rows(make_run: Make) -> None:
    frame = load.load(make_run(**SMALL)).frame

    ceilings = frame.groupby("dtype")["ceiling"].first()
    assert ceilings["float32"] == 310e9
    assert ceilings["bfloat16"] == 1500e9
    assert set(frame["bandwidth"]) == {21e9}


def test_a_suspect_run_has_no_decided_verdict(make_run: Make) -> None:
    frame = load.load(make_run(**SMALL, header={"suspect": True})).frame

    assert set(frame["speedup_verdict"].dropna()) == {"AMBIGUOUS"}
    assert frame["suspect"].all()


def test_one_arm_speaks_for_a_format(make_run: Make) -> None:
    frame = load.load(make_run(**SMALL)).frame
    kept = load.representatives(frame)

    assert not kept.duplicated(["case_id", "format"]).any()
    assert set(kept.loc[kept["format"] == "diagonal", "arm"]) == {"diagonal"}
    assert set(kept.loc[kept["format"] == "dense", "arm"]) == {"dense"}
    blocks = frame[frame["format"] == "block"].groupby("case_id")["time"].min()
    chosen = kept[kept["format"] == "block"].set_index("case_id")["time"]
    assert (chosen == blocks[chosen.index]).all()


def test_a_wrong_diagonal_is_not_replaced_by_another_backend(make_run: Make) -> None:
    kept = load.representatives(load.load(make_run(**SMALL, status={"diagonal": "wrong"})).frame)

    assert set(kept.loc[kept["format"] == "diagonal", "status"]) == {"wrong"}


def test_variants_start_with_float32_forward(make_run: Make) -> None:
    frame = load.load(make_run(**SMALL)).frame

    keys = [key for key, _ in load.variants(frame, ("dtype", "direction"))]
    assert keys[:2] == [("float32", "forward"), ("float32", "step")]
    assert len(keys) == 4


def test_samples_are_read_and_sorted(make_run: Make) -> None:
    folder = make_run(**SMALL, samples=True)
    case = load.load(folder).frame["case_id"].iloc[0]

    times = load.samples(str(folder), case)["diagonal"]
    assert times.size == 60
    assert (np.diff(times) >= 0).all()


@pytest.mark.parametrize("name", ["../outside", "ffffffffffff", ""])
def test_samples_elsewhere_or_missing_are_none(make_run: Make, name: str) -> None:
    folder = make_run(**SMALL)
    np.savez(folder.parent / "outside.npz", diagonal=np.ones(3))

    assert load.samples(str(folder), name) == {}


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no run folder .*nowhere.*run\.json"):
        load.load(tmp_path / "nowhere")


def test_a_run_without_rows_is_one_clear_error(make_run: Make) -> None:
    folder = make_run(**SMALL)
    (folder / "rows.jsonl").write_text("")

    with pytest.raises(RecordError, match=r"holds no rows.*--resume"):
        load.load(folder)


def test_a_case_that_failed_as_a_whole_is_kept(make_run: Make) -> None:
    folder = make_run(**SMALL)
    lines = (folder / "rows.jsonl").read_text().splitlines()
    failed = json.loads(lines[-1]) | {"case_id": "0" * 12, "status": "failed", "reason": "boom"}
    with (folder / "rows.jsonl").open("a") as stream:
        stream.write(json.dumps(failed) + "\n")

    assert list(load.load(folder).failures["reason"]) == ["boom"]
