from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from dynadiag.bench import environment
from dynadiag.bench.records import (
    COLUMNS,
    HEADER,
    SCHEMA_VERSION,
    RecordError,
    RunWriter,
    blank_row,
    case_id,
    load_samples,
    read_run,
)
from dynadiag.bench.schema import WORDS

SCHEMAS = Path(__file__).parents[2] / "results" / "schema"
FIRST, SECOND = case_id(batch=1), case_id(batch=2)


def make_header(**changes: Any) -> dict[str, Any]:
    header: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "r1",
        "started_utc": "2026-01-01T00:00:00+00:00",
        "mode": "quick",
        "argv": ["dynadiag", "bench"],
        "seed": 0,
        "git": {},
        "device": {"type": "cpu", "name": "A CPU", "slug": "a-cpu-2c"},
        "host": {},
        "software": {"torch": "2.13.0"},
        "torch_flags": {"num_threads": 2},
        "env": {},
    }
    return header | changes


def make_row(case: str = FIRST, **columns: Any) -> dict[str, Any]:
    defaults = {"run_id": "r1", "case_id": case, "suite": "layers", "metric": "time"}
    return blank_row(**(defaults | columns))


def case_rows(case: str) -> list[dict[str, Any]]:
    return [make_row(case, arm="dense", value=1e-3, n=30), make_row(case, metric="case")]


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    return RunWriter.create(tmp_path, make_header(), device_slug="a-cpu-2c")


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}-1.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def test_what_is_written_is_read_back(writer: RunWriter) -> None:
    rows = [
        make_row(arm="diagonal", value=np.float64(1.5), n=np.int64(30), flags=("a", "b")),
        make_row(metric="case"),
    ]
    writer.append(rows)
    writer.update_header(suspect=False, aa={"ratio": 1.0})
    run = read_run(writer.folder)
    assert run.rows[0] == make_row(arm="diagonal", value=1.5, n=30, flags=["a", "b"])
    assert run.header == make_header(suspect=False, aa={"ratio": 1.0})
    assert run.folder == writer.folder


def test_the_folder_is_named_by_time_and_device_and_never_reused(tmp_path: Path) -> None:
    folders = {
        RunWriter.create(tmp_path, make_header(), device_slug="a-cpu-2c").folder for _ in range(3)
    }
    assert len(folders) == 3
    assert all("Z-a-cpu-2c" in folder.name for folder in folders)


def test_unknown_numbers_become_null(writer: RunWriter) -> None:
    writer.append([make_row(value=math.nan, ci_hi=math.inf)])
    row = read_run(writer.folder).rows[0]
    assert (row["value"], row["ci_hi"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("verdict"), "lacks verdict"),
        (lambda row: row.update(speed=1.0), "unknown columns: speed"),
        (lambda row: row.update(n=1.5), "n is '1.5', expected integer or null"),
        (lambda row: row.update(value=True), "value is 'True', expected number or null"),
        (lambda row: row.update(metric=None), "metric is 'None', expected string"),
        (lambda row: row.update(status="fine"), "known: ok, skipped, wrong, failed"),
        (lambda row: row.update(config=object()), "has no place in a record"),
    ],
)
def test_a_bad_row_is_refused_and_leaves_nothing(
    writer: RunWriter, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    bad = make_row()
    change(bad)
    with pytest.raises(RecordError, match=message):
        writer.append([make_row(), bad])
    assert read_run(writer.folder).rows == []


def test_blank_row_refuses_an_unknown_column() -> None:
    with pytest.raises(RecordError, match="unknown column spede; known: run_id"):
        blank_row(spede=1)


def test_case_id_depends_on_the_parameters_only() -> None:
    assert case_id(a=1, b=0.9) == case_id(b=np.float64(0.9), a=np.int64(1))
    assert case_id(a=1, b=0.9) != case_id(a=1, b=0.95)
    assert case_id(batch=1) == "55e43c883aeb"
    assert len(case_id()) == 12


def test_finished_cases_are_those_with_a_closing_row(writer: RunWriter) -> None:
    writer.append(case_rows(FIRST))
    writer.append([make_row(SECOND)])
    assert writer.finished_cases() == {FIRST}


def test_a_case_is_put_in_the_place_of_its_rows(writer: RunWriter) -> None:
    for case in (FIRST, SECOND):
        writer.put(case_rows(case))
    before = (writer.folder / "rows.jsonl").read_bytes()
    writer.put(case_rows(FIRST))
    assert (writer.folder / "rows.jsonl").read_bytes() == before
    writer.put([make_row(FIRST), *case_rows(FIRST)])
    assert [row["case_id"] for row in read_run(writer.folder).rows] == [FIRST] * 3 + [SECOND] * 2


def test_resume_drops_what_was_cut_short(writer: RunWriter) -> None:
    writer.append(case_rows(FIRST))
    writer.append([make_row(SECOND)])
    rows = writer.folder / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + b'{"run_id": "r1", "ca')
    again = RunWriter.resume(writer.folder, make_header(run_id="r2"))
    assert again.finished_cases() == {FIRST}
    assert again.header["run_id"] == "r1"
    again.append(case_rows(SECOND))
    assert [row["case_id"] for row in read_run(writer.folder).rows] == [FIRST] * 2 + [SECOND] * 2


def test_resume_restores_a_lost_line_end(writer: RunWriter) -> None:
    writer.append(case_rows(FIRST))
    rows = writer.folder / "rows.jsonl"
    rows.write_bytes(rows.read_bytes().rstrip(b"\n"))
    RunWriter.resume(writer.folder, make_header()).append(case_rows(SECOND))
    assert len(read_run(writer.folder).rows) == 4


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"mode": "full"}, "mode is 'quick', here it is 'full'"),
        ({"device": {"type": "cpu", "name": "B CPU", "slug": "b"}}, "device.name is 'A CPU'"),
        ({"software": {"torch": "2.11.0"}}, "software.torch is '2.13.0'"),
        ({"torch_flags": {"num_threads": 1}}, "torch_flags.num_threads is 2"),
        ({"schema_version": "1.2"}, "schema_version is '1.1'"),
    ],
)
def test_resume_refuses_another_machine_or_mode(
    writer: RunWriter, changes: dict[str, Any], field: str
) -> None:
    writer.append([make_row()])
    before = (writer.folder / "rows.jsonl").read_bytes()
    with pytest.raises(RecordError, match=rf"{field}.*start a new run"):
        RunWriter.resume(writer.folder, make_header(**changes))
    assert (writer.folder / "rows.jsonl").read_bytes() == before


def test_a_truncated_last_line_is_left_out_with_a_warning(writer: RunWriter) -> None:
    writer.append(case_rows(FIRST))
    rows = writer.folder / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="last line is truncated"):
        assert len(read_run(writer.folder).rows) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"not json\n", "line 2 is damaged"),
        (b"[1]\n", "not a JSON object"),
        (b'{"value": NaN}\n', "NaN is not JSON"),
        (b"[" * 100_000 + b"\n", "line 2 is damaged"),
        (b"\xff\xfe\n", "line 2 is damaged"),
        (b'{"run_id": "r1"}\n', "line 2 lacks case_id"),
        (json.dumps(make_row() | {"value": 1e9}).replace("1000000000.0", "1e999").encode() + b"\n",
         "value is 'inf'"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_an_error(writer: RunWriter, line: bytes, message: str) -> None:
    writer.append(case_rows(FIRST))
    rows = writer.folder / "rows.jsonl"
    first, second = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(first + line + second)
    with pytest.raises(RecordError, match=message):
        read_run(writer.folder)


def test_columns_of_a_newer_minor_version_are_left_out(writer: RunWriter) -> None:
    text = json.dumps(make_row() | {"brand_new": 1})
    (writer.folder / "rows.jsonl").write_text(text + "\n")
    assert read_run(writer.folder).rows == [make_row()]


@pytest.mark.parametrize("version", ["2.0", "0.9", "x", None])
def test_another_schema_version_is_refused(writer: RunWriter, version: str | None) -> None:
    header = json.dumps(make_header(schema_version=version))
    (writer.folder / "run.json").write_text(header)
    with pytest.raises(RecordError, match=rf"schema version {version}, this version reads 1\.1"):
        read_run(writer.folder)
    with pytest.raises(RecordError, match="schema version"):
        RunWriter.resume(writer.folder, make_header())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a run folder"),
        ("{", "damaged"),
        ("[]", "damaged: not a JSON object"),
        ('{"schema_version": "1.0"}', "lacks run_id"),
        (json.dumps(make_header(device="x")), "device is 'x', expected object"),
    ],
)
def test_a_bad_header_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RecordError, match=message):
        read_run(tmp_path)


def test_a_run_without_rows_is_empty(writer: RunWriter) -> None:
    (writer.folder / "rows.jsonl").unlink()
    assert read_run(writer.folder).rows == []


def test_an_incomplete_header_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="the header lacks run_id"):
        RunWriter.create(tmp_path / "runs", {"schema_version": "1.0"}, device_slug="x")
    with pytest.raises(RecordError, match=r"writes schema 1\.1, not .2\.0"):
        RunWriter.create(tmp_path / "runs", make_header(schema_version="2.0"), device_slug="x")
    assert not (tmp_path / "runs").exists()


def test_a_header_update_of_the_wrong_type_changes_nothing(writer: RunWriter) -> None:
    with pytest.raises(RecordError, match="seed is 'x', expected integer"):
        writer.update_header(seed="x")
    assert read_run(writer.folder).header == writer.header == make_header()


def test_an_unwritable_folder_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"cannot write .*file.*choose a folder you may write"):
        RunWriter.create(tmp_path / "file" / "runs", make_header(), device_slug="x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_with_a_remedy(writer: RunWriter) -> None:
    rows = writer.folder / "rows.jsonl"
    rows.unlink()
    rows.symlink_to("/dev/full")
    with pytest.raises(RecordError, match=r"rows\.jsonl: No space left.*--resume"):
        writer.append(case_rows(FIRST))
    assert writer.finished_cases() == set()


def test_a_disk_that_fills_up_midway_keeps_whole_cases_only(
    writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append(case_rows(FIRST))
    before = (writer.folder / "rows.jsonl").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(RecordError, match="No space left"):
            writer.append(case_rows(SECOND))
        with pytest.raises(RecordError, match="No space left"):
            writer.update_header(suspect=True)
    assert (writer.folder / "rows.jsonl").read_bytes() == before
    assert read_run(writer.folder).header == writer.header == make_header()
    assert sorted(path.name for path in writer.folder.iterdir()) == ["rows.jsonl", "run.json"]


def test_samples_come_back_as_float32(writer: RunWriter) -> None:
    writer.save_samples(FIRST, {"dense": [1e-3, 2e-3], "diagonal": np.array([5e-4, 6e-4])})
    samples = load_samples(writer.folder, FIRST)
    assert list(samples) == ["dense", "diagonal"]
    assert samples["dense"].dtype == np.float32
    assert samples["diagonal"] == pytest.approx([5e-4, 6e-4])
    assert load_samples(writer.folder, SECOND) == {}


def test_samples_are_never_unpickled(writer: RunWriter) -> None:
    writer.save_samples(FIRST, {})
    path = writer.folder / "samples" / f"{FIRST}.npz"
    np.savez(path, dense=np.array([{}], dtype=object))
    with pytest.raises(RecordError, match="holds no samples"):
        load_samples(writer.folder, FIRST)
    path.write_bytes(b"garbage")
    with pytest.raises(RecordError, match="holds no samples"):
        load_samples(writer.folder, FIRST)


@pytest.mark.parametrize("case", ["../../etc/x", "ABCDEFABCDEF", "abc"])
def test_a_case_id_cannot_leave_the_folder(writer: RunWriter, case: str) -> None:
    with pytest.raises(RecordError, match="not 12 hex digits"):
        writer.save_samples(case, {})
    with pytest.raises(RecordError, match="not 12 hex digits"):
        load_samples(writer.folder, case)


@pytest.mark.parametrize(("name", "types"), [("row", COLUMNS), ("run", HEADER)])
def test_the_schema_files_agree_with_the_code(name: str, types: dict[str, tuple[str, ...]]) -> None:
    loaded = schema(name)
    assert loaded["required"] == list(types)
    for field, allowed in types.items():
        declared = loaded["properties"][field]
        assert declared["type"] == (allowed[0] if len(allowed) == 1 else list(allowed)), field
        words = WORDS.get(field) if name == "row" else None
        expected = [*words, *[None for kind in allowed if kind == "null"]] if words else None
        assert declared.get("enum") == expected, field
        assert declared["description"]
    if name == "row":
        assert list(loaded["properties"]) == list(types)


def test_real_records_pass_the_schema_files(tmp_path: Path) -> None:
    header = environment.header()
    writer = RunWriter.create(tmp_path, header, device_slug=environment.device_slug())
    writer.append(case_rows(FIRST))
    run = read_run(writer.folder)
    jsonschema.validate(run.header, schema("run"))
    for row in run.rows:
        jsonschema.validate(row, schema("row"))


def test_the_row_schema_refuses_what_the_code_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(make_row() | {"extra": 1}, schema("row"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(make_row(verdict="MAYBE"), schema("row"))


def test_records_of_the_first_schema_are_still_read() -> None:
    run = read_run(Path(__file__).parent / "run-1.0")
    assert run.header["schema_version"] == "1.0"
    assert len(run.rows) == 40
    assert all(row.keys() == COLUMNS.keys() for row in run.rows)


def test_stages_of_a_qualification_fit_the_schema() -> None:
    stage = {"name": "headline", "status": "ok", "seconds": 1.5, "allotted_s": None, "note": "x"}
    validate = jsonschema.Draft202012Validator(schema("run")).validate
    validate(make_header(stages=[stage], kernels_not_checked=["dynadiag::reduce<float>"]))
    with pytest.raises(jsonschema.ValidationError):
        validate(make_header(stages=[stage | {"status": "fine"}]))
