"""The page of a run of the accuracy suite, alone, with times, and when much is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dynadiag.reports import findings, html, load, training_tables, write_report
from dynadiag.reports.figures import DRAWINGS
from dynadiag.reports.tables import Table

Make = Callable[..., Path]
FEW = {
    "tasks": ("digits-mlp", "text-gpt"),
    "sparsities": (0.9, 0.99),
    "methods": ("dense", "static_unstructured", "rigl", "static", "dynadiag"),
}
TIMES = {
    "shapes": ("768x768",),
    "batches": (197,),
    "sparsities": (0.9, 0.99),
    "dtypes": ("float32",),
    "directions": ("forward",),
    "arms": ("dense", "dense_again", "diagonal", "csr"),
}


@pytest.fixture(scope="module")
def alone(make_training: Make) -> Path:
    return write_report([make_training(**FEW, looks=6)])


@pytest.fixture
def no_times_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(DRAWINGS):
        monkeypatch.delitem(DRAWINGS, name)


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_a_run_of_accuracy_alone_is_a_whole_page(alone: Path) -> None:
    text = alone.read_text()

    for part in (
        "Against RigL, over 5 seeds, DynaDiag is",
        "Where diagonals lose: DynaDiag to RigL",
        "Choosing diagonals: against static diagonals, DynaDiag is",
        "digits-mlp (test accuracy): dense 98",
        "DynaDiag minus RigL, in nat:",
        "AMD EPYC 9B45",
        "Search for learning rates",
        "Freezing",
        "Environment",
        "dynadiag accuracy --mode full",
        "No timing run of this report",
    ):
        assert part in text, part
    for part in ("Control (A/A)", "Headline: speedup", "Not timed", "no ratio was measured"):
        assert part not in text, part


def test_every_figure_is_written_and_shown(alone: Path) -> None:
    stems = {path.stem for path in (alone.parent / "fig").glob("*.csv")} - {"accuracy-table"}

    assert stems == {"accuracy", "differences"} | {
        f"{name}-digits_mlp"
        for name in ("alpha_paths", "active_diagonals", "overlap", "diagonal_map")
    }
    for stem in stems:
        for suffix in (".svg", "-dark.svg", ".png"):
            assert (alone.parent / "fig" / f"{stem}{suffix}").stat().st_size > 500
    assert alone.read_text().count("<svg") == 2 * len(stems)
    assert alone.stat().st_size < html.PAGE_BYTES


def test_ids_are_unique_and_links_lead_somewhere(alone: Path) -> None:
    text = alone.read_text()
    ids = re.findall(r'\bid="([^"]+)"', text)

    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    for link in re.findall(r'href="(fig/[^"]+)"', text):
        assert (alone.parent / link).is_file(), link


@pytest.mark.usefixtures("no_times_drawn")
def test_times_of_another_run_give_the_speeds(
    make_training: Make, make_run: Make, tmp_path: Path
) -> None:
    runs = [make_training(**FEW), make_run(**TIMES)]

    text = write_report(runs, tmp_path).read_text()

    assert (tmp_path / "fig/run1-pareto-AMD_EPYC_9B45-eager-float32.svg").is_file()
    assert "No timing run of this report" not in text
    assert text.count("<article") == 2
    assert "Runs side by side" not in text
    assert 'href="#run2-top"' in text


@pytest.mark.usefixtures("no_times_drawn")
def test_one_run_may_hold_both(make_training: Make, make_run: Make) -> None:
    folder = make_run(**TIMES)
    rows = (make_training(**FEW) / "rows.jsonl").read_text()
    with (folder / "rows.jsonl").open("a") as stream:
        stream.write(rows)

    text = write_report([folder]).read_text()

    assert "Headline: speedup by format and sparsity" in text
    assert "Results by method and sparsity" in text
    assert text.index("Headline: speedup") < text.index("Results by method")
    assert (folder / "fig/pareto-AMD_EPYC_9B45-eager-float32.svg").is_file()


@pytest.mark.usefixtures("no_times_drawn")
def test_a_run_of_times_has_no_part_on_accuracy(make_run: Make) -> None:
    text = write_report([make_run(**TIMES)]).read_text()

    assert "Results by method and sparsity" not in text
    assert "Search for learning rates" not in text


def test_failures_are_named_and_not_numbered(make_training: Make) -> None:
    records = load.load(make_training(**FEW, failing=("dynadiag",)))

    (table, _) = training_tables.results(records.accuracy)
    own = next(row for row in table.rows if row[0].text == "DynaDiag")
    assert [(cell.text, cell.note, cell.tone) for cell in own[1:]] == [("–", "failed", "bad")] * 2
    lost = texts(training_tables.absences(records.accuracy))
    assert lost[0][:3] == ["digits-mlp", "DynaDiag", "failed"]
    assert "not compared with RigL" in findings.find(records.accuracy).lead


def test_nothing_trained_is_still_a_page(make_training: Make) -> None:
    folder = make_training(**FEW)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"status": "failed", "reason": "boom", "value": None, "stat": None}
        row["metric"] = "case" if row["arm"] is None else "accuracy"
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    text = write_report([folder]).read_text()

    assert "No training of the accuracy suite came to its end." in text
    assert "boom" in text


def test_differences_have_intervals_and_p_values(make_training: Make) -> None:
    frame = load.load(make_training(**FEW)).accuracy
    table = next(iter(training_tables.differences(frame)))

    assert table.caption == "digits-mlp: difference to RigL, in points"
    cell = table.rows[0][1]
    assert re.fullmatch(r"[+−]\d\.\d\d", cell.text)
    assert re.fullmatch(r"[+−][\d.]+ to [+−][\d.]+, p = [\d.e-]+", cell.note)


def test_a_search_that_serves_several_sparsities_is_told_once(make_training: Make) -> None:
    records = load.load(make_training(**FEW))
    rows = texts(training_tables.searches(records.searches))

    assert len(rows) == 2 * 5
    assert rows[0][2] == "90 % and 99 %"
    assert rows[0][3].startswith("0.001: validation loss 0.301, accuracy 0.9490; 0.003:")


def test_what_freezing_did_is_told(make_training: Make) -> None:
    kept = {"sparsities": (0.9,), "methods": ("dynadiag", "dynadiag_paper")}
    frame = load.load(make_training(tasks=("digits-mlp",), **kept)).accuracy
    dynadiag, paper = texts(training_tables.freezing(frame))

    assert dynadiag[:3] == ["digits-mlp", "DynaDiag", "90 %"]
    assert dynadiag[3] == dynadiag[4]
    assert dynadiag[5] == "0"
    before, after = (float(text.removesuffix(" %")) for text in paper[3:5])
    assert before - after == pytest.approx(4, abs=0.11)
    assert paper[5] == "0.4"


@pytest.mark.parametrize(("shift", "word"), [(0.05, "better in 4"), (-0.05, "worse in 4")])
def test_the_lead_follows_the_data(make_training: Make, shift: float, word: str) -> None:
    frame = load.load(make_training(**FEW)).accuracy
    sign = frame["metric"].map({"accuracy": 1, "loss": -1})
    for end in ("rigl", "rigl_lo", "rigl_hi"):
        frame[end] = sign * shift
    frame["rigl_verdict"] = "better" if shift > 0 else "worse"

    found = findings.find(frame)

    assert f"{word} of 4 cases" in found.lead
    assert ("to RigL in none" in found.losses) == (shift > 0)
    within = 4 if shift > 0 else 0
    assert f"mean of DynaDiag in {within}, its whole interval in {within} of 4" in found.findings[0]


def test_names_from_records_cannot_break_out(make_training: Make) -> None:
    folder = make_training(**FEW)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["config"] = "</script><img src=x onerror=alert(1)>"
        row["model"] = row["model"].replace("digits", "<b>$x$")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    text = write_report([folder]).read_text()

    assert "<img" not in text
    assert "<b>" not in text
