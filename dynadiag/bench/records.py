"""Records: one folder a run, a header (`run.json`) and flat rows (`rows.jsonl`).

Rows are appended and synced case by case, so an interrupted run keeps every finished case.
Files may come from other machines: they are parsed and checked, never executed.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dynadiag.bench.files import append, keep_lines, replace, temporary
from dynadiag.bench.schema import (
    COLUMNS,
    HEADER,
    SCHEMA_VERSION,
    RecordError,
    Row,
    blank_row,
    case_id,
    check,
    check_row,
    dump,
    load,
    plain,
)

__all__ = [
    "COLUMNS",
    "HEADER",
    "SCHEMA_VERSION",
    "RecordError",
    "Row",
    "Run",
    "RunWriter",
    "blank_row",
    "case_id",
    "load_samples",
    "read_run",
]

# What a run must have in common with the one it continues: else their times are not comparable.
_SAME_RUN = (
    ("schema_version",),
    ("mode",),
    ("device", "name"),
    ("device", "slug"),
    ("software", "torch"),
    ("torch_flags", "num_threads"),
)


@dataclass(frozen=True)
class Run:
    """A run as read from its folder."""

    header: dict[str, Any]
    rows: list[Row]
    folder: Path


class RunWriter:
    """Appends to one run folder.

    Attributes:
        folder: the run's folder.
        header: what `run.json` holds.
    """

    def __init__(self, folder: Path, header: dict[str, Any], finished: Iterable[str]) -> None:
        self.folder, self.header = folder, header
        self._finished = set(finished)

    @classmethod
    def create(cls, root: Path, header: Mapping[str, Any], *, device_slug: str) -> Self:
        """Start a run in a new folder of `root` named by the time (UTC) and the device.

        Raises:
            RecordError: if the header is incomplete or the folder cannot be written.
        """
        fields = plain(header)
        check(fields, HEADER, "the header")
        if fields["schema_version"] != SCHEMA_VERSION:
            raise RecordError(
                f"this version writes schema {SCHEMA_VERSION}, not {fields['schema_version']!r}"
            )
        with _explained(root, "choose a folder you may write to"):
            folder = _new_folder(root, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{device_slug}")
            replace(folder / "run.json", dump(fields, indent=2))
            (folder / "rows.jsonl").touch()
        return cls(folder, fields, ())

    @classmethod
    def resume(cls, folder: Path, header: Mapping[str, Any]) -> Self:
        """Continue the run in `folder`; rows of a case that was cut short are dropped.

        Args:
            folder: of a run that stopped early.
            header: of the present process, to be compared with the stored one.

        Raises:
            RecordError: if the folder holds no run of this schema, machine and mode.
        """
        stored = _read_header(folder)
        for path in _SAME_RUN:
            was, now = _dig(stored, path), _dig(header, path)
            if was != now:
                raise RecordError(
                    f"{folder} cannot be resumed: its {'.'.join(path)} is {was!r}, here it is "
                    f"{now!r}; start a new run instead"
                )
        rows_path = folder / "rows.jsonl"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rows = list(_read_rows(rows_path))
        ends = [number for number, row in enumerate(rows, 1) if row["metric"] == "case"]
        with _explained(rows_path, "make it writable"):
            keep_lines(rows_path, ends[-1] if ends else 0)
        return cls(folder, stored, (rows[end - 1]["case_id"] for end in ends))

    def append(self, rows: Collection[Mapping[str, Any]]) -> None:
        """Write the rows of one case in one go; they are on the disk when this returns.

        A case is finished by its last row, whose metric is ``case``. If the disk is full nothing
        of the case is kept.

        Raises:
            RecordError: if a column is missing, unknown or of the wrong type, or the write fails.
        """
        case = _checked(rows)
        path = self.folder / "rows.jsonl"
        with _explained(path, "free some space and continue with --resume"):
            append(path, _lines(case).encode())
        self._finished |= {row["case_id"] for row in case if row["metric"] == "case"}

    def put(self, rows: Collection[Mapping[str, Any]]) -> None:
        """Write the rows of one case, in the place of those it has; the same ones are left alone.

        Raises:
            RecordError: as `append`.
        """
        case, path = _checked(rows), self.folder / "rows.jsonl"
        number = case[0]["case_id"]
        if number not in self._finished:
            return self.append(rows)
        every = list(_read_rows(path))
        first = next(at for at, row in enumerate(every) if row["case_id"] == number)
        others = [row for row in every if row["case_id"] != number]
        if [row for row in every if row["case_id"] == number] != case:
            with _explained(path, "free some space and continue with --resume"):
                replace(path, _lines([*others[:first], *case, *others[first:]]))

    def finished_cases(self) -> set[str]:
        """The ids of the cases that need not run again, whatever their status."""
        return set(self._finished)

    def update_header(self, **fields: object) -> None:
        """Set top-level fields of `run.json`, which is replaced in one step.

        Raises:
            RecordError: if a field has the wrong type or the write fails.
        """
        header = self.header | plain(fields)
        check(header, HEADER, "the header")
        path = self.folder / "run.json"
        with _explained(path, "free some space and continue with --resume"):
            replace(path, dump(header, indent=2))
        self.header = header

    def save_samples(self, case: str, samples: Mapping[str, ArrayLike]) -> None:
        """Keep the samples (seconds, as float32) of a case's arms beside the rows.

        Raises:
            RecordError: if the write fails.
        """
        path = _samples_path(self.folder, case)
        arrays = {arm: np.asarray(values, dtype=np.float32) for arm, values in samples.items()}
        with _explained(path, "free some space and continue with --resume"):
            path.parent.mkdir(exist_ok=True)
            with temporary(path) as partial, partial.open("wb") as file:
                np.savez_compressed(file, **cast("dict[str, Any]", arrays))


def load_samples(folder: Path, case: str) -> dict[str, NDArray[np.float32]]:
    """The samples of a case by arm; empty if none were kept.

    Raises:
        RecordError: if the file is not a plain archive of arrays.
    """
    path = _samples_path(folder, case)
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {arm: archive[arm].astype(np.float32) for arm in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RecordError(f"{path} holds no samples: {error}; delete it") from error


def read_run(folder: Path) -> Run:
    """Read a run. A truncated last line is left out, with a warning.

    Raises:
        RecordError: if the folder holds no run, its schema is of another major version, or a
            line is damaged.
    """
    folder = Path(folder)
    return Run(_read_header(folder), list(_read_rows(folder / "rows.jsonl")), folder)


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    try:
        header = load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{folder} is not a run folder: no readable run.json in it") from error
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from error
    version = str(header.get("schema_version"))
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise RecordError(
            f"{path} has schema version {version}, this version reads {SCHEMA_VERSION}; "
            "use the version of dynadiag that wrote it"
        )
    check(header, HEADER, str(path))
    return header


def _checked(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    case = [plain(row) for row in rows]
    for row in case:
        check_row(row, f"a row of arm {row.get('arm')!r}", extra=False)
    return case


def _lines(rows: Iterable[Row]) -> str:
    return "".join(dump(row) + "\n" for row in rows)


def _read_rows(path: Path) -> Iterator[Row]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = load(line.decode())
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                warnings.warn(f"{path}: the last line is truncated, left out", stacklevel=3)
                return
            raise RecordError(f"{path}, line {number} is damaged: {error}") from error
        check_row(row, f"{path}, line {number}", extra=True)
        yield {name: row[name] for name in COLUMNS}


def _dig(header: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = header
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _samples_path(folder: Path, case: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{12}", case):
        raise RecordError(f"case id {case!r} is not 12 hex digits")
    return folder / "samples" / f"{case}.npz"


def _new_folder(root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, 100):
        folder = root / (name if attempt == 1 else f"{name}-{attempt}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise FileExistsError(f"{root / name} and 98 others exist")


@contextmanager
def _explained(path: Path, remedy: str) -> Iterator[None]:
    """Turn an error of the file system into one that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror or error}; {remedy}") from error
