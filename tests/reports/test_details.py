"""The tables at the foot of the page, and what a run on a card adds to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynadiag.bench.records import blank_row
from dynadiag.reports import details, load, style, summary, words, write_report
from dynadiag.reports.figures import DRAWINGS, energy
from dynadiag.reports.load import Records
from dynadiag.reports.tables import Table

Make = Callable[..., Path]
CARD = {
    "device": {"type": "cuda", "name": "NVIDIA H200", "slug": "nvidia-h200"},
    "self_checks": {"copy_gbps": {"device": 4300.0}, "gemm_gflops": {"float32": 5e4}},
    "stages": [{"name": "kernels", "status": "ok", "seconds": 31.4, "note": "972 right"}],
}
SMALL = {
    "shapes": ("768x768", "768x3072"),
    "batches": (197,),
    "sparsities": (0.5, 0.9),
    "dtypes": ("float32",),
    "directions": ("forward",),
    "arms": ("dense", "dense_again", "diagonal", "csr"),
    "energy": True,
    "header": CARD,
}


@pytest.fixture(scope="module")
def card(make_run: Make) -> Path:
    """A run with two regimes, energy, flags, a chosen algorithm, and two checks of kernels."""
    folder = make_run(**SMALL, regimes=("cold", "eager"))
    path = folder / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["arm"] == "csr":
            row |= {"config": "forward cusparse(alg=3 row)", "flags": ["launch_bound"]}
        if row["arm"] == "dense" and row["metric"] == "peak_bytes":
            rows.append(row | {"metric": "peak_reserved", "value": 2e6})
    for direction, status in (("forward", "ok"), ("grad_x", "wrong")):
        about: dict[str, Any] = {
            "run_id": "r",
            "case_id": "0" * 12,
            "suite": "kernels",
            "arm": "cuda",
        }
        about |= {"direction": direction, "dtype": "float32", "metric": "error", "value": 2e-7}
        rows.append(blank_row(**about, status=status, reason="bad" if status == "wrong" else None))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def records(card: Path) -> Records:
    return load.load(card)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_checks_of_kernels_are_no_arms(records: Records) -> None:
    assert "cuda" not in set(records.frame["arm"])
    assert texts(details.checks(records)) == [
        ["forward", "float32", "1", "0", "2e-07", ""],
        ["grad_x", "float32", "1", "1", "2e-07", "bad"],
    ]


def test_algorithms_of_the_rivals_are_listed(records: Records) -> None:
    rows = texts(details.chosen(records.frame))
    assert [row[0] for row in rows] == ["csr", "csr"]
    assert rows[0][4:] == ["forward cusparse(alg=3 row)", "4", "768x3072 and 768x768"]


def test_flags_are_explained(records: Records) -> None:
    (row,) = texts(details.flags(records.frame))
    assert row[:3] == ["launch_bound", "csr", "8"]
    assert "they are in the time" in row[3]


def test_energy_is_gross_and_net_with_power_and_the_caveat(records: Records) -> None:
    table = details.energy(records.frame)
    assert words.NVML in table.caption
    row = texts(table)[0]
    assert row[-2] == "55 W"
    assert row[-4] != row[-3] != words.MISSING


def test_unmeasured_energy_makes_no_table(make_run: Make) -> None:
    run = load.load(make_run(**(SMALL | {"energy": False})))
    assert details.energy(run.frame).rows == []
    figure = energy.figure(load.representatives(run.frame), style.LIGHT)
    assert "not measured" in figure.texts[0].get_text()


def test_stages_and_memory_of_a_card_are_told(records: Records) -> None:
    assert texts(details.stages(records.header)) == [["kernels", "ok", "31 s", "972 right"]]
    assert texts(details.memory(records.frame))[0][0] == "dense"


def test_a_run_on_the_cpu_has_none_of_it(make_run: Make) -> None:
    run = load.load(make_run(**{k: v for k, v in SMALL.items() if k not in ("header", "energy")}))
    assert [table.caption for table in details.all_of(run)] == ["Flags"]


def test_no_figure_mixes_regimes(records: Records) -> None:
    frame = load.representatives(records.frame)
    for name, drawing in DRAWINGS.items():
        parts = [part for _, part in load.variants(frame, drawing.SPLIT)]
        assert len(parts) == 2, name
        assert all(part["regime"].nunique() == 1 for part in parts), name


def test_the_cold_regime_comes_first_and_each_is_named(records: Records) -> None:
    frame = load.representatives(records.frame)
    keys = [key for key, _ in load.variants(frame, ("regime",))]
    assert keys == [("cold",), ("eager",)]
    found = summary.summarise(records, frame)
    assert "forward pass (cold: caches flushed, launch hidden)" in found.lead
    assert found.losses.count("Where diagonals lose (") == 2


def test_ceilings_of_a_card_are_those_of_its_self_checks(records: Records) -> None:
    assert set(records.frame["bandwidth"]) == {4300e9}
    assert set(records.frame["ceiling"]) == {5e13}


def test_a_value_known_later_replaces_the_reason_for_its_absence(make_run: Make) -> None:
    folder = make_run(**(SMALL | {"energy": False}))
    path = folder / "rows.jsonl"
    row: dict[str, Any] = next(
        row
        for row in map(json.loads, path.read_text().splitlines())
        if (row["arm"], row["metric"]) == ("diagonal", "energy")
    )
    with path.open("a") as stream:
        stream.write(json.dumps(row | {"value": 2.5, "reason": None}) + "\n")
    frame = load.load(folder).frame.set_index(["case_id", "arm"])
    assert frame.loc[(row["case_id"], "diagonal"), "energy"] == 2.5


def test_the_page_of_a_card_holds_it_all(card: Path, tmp_path: Path) -> None:
    text = write_report([card], tmp_path).read_text()
    for part in ("NVIDIA H200", words.NVML, "cusparse(alg=3 row)", "972 right", "launch_bound"):
        assert part in text, part
    stems = {path.stem for path in (tmp_path / "fig").glob("speedup-*.csv")}
    assert stems == {"speedup-cold-float32-forward", "speedup-eager-float32-forward"}


def test_net_energy_is_drawn_beside_gross(records: Records) -> None:
    shown = energy.points(load.representatives(records.frame))
    assert isinstance(shown, pd.DataFrame)
    ratio = shown["saving_net"] / shown["saving"]
    assert ratio.to_numpy() == pytest.approx(1.0)
