"""`dynadiag reference RUN`: what later runs on such a device are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dynadiag.bench import files
from dynadiag.bench.environment import device_slug, git
from dynadiag.bench.records import SCHEMA_VERSION, RecordError, Row, read_run
from dynadiag.bench.schema import dump

from .outcome import CompareError

CHECKOUT = Path(__file__).resolve().parents[2]
# What is compared: the middle of the times, ratios, bytes, and what could not be measured.
_KEPT = ("speedup", "weight_bytes", "peak_bytes", "case")


def folder_of(slug: str, checkout: Path = CHECKOUT) -> Path:
    """Return where the reference of a device is, or would be."""
    return checkout / "results" / "reference" / slug


def refresh(path: Path, checkout: Path = CHECKOUT) -> Path:
    """Make a run the reference of its device, in the place of the one before.

    Args:
        path: a run of this machine and this commit or an earlier one.
        checkout: the repository that keeps the reference.

    Returns:
        The folder written to.

    Raises:
        CompareError: the run cannot be read, or may not be held up to others.
    """
    try:
        run = read_run(path)
        reason = next(_objections(run.header, checkout), None)
        if reason is not None:
            raise CompareError(f"{path.name} cannot be a reference: {reason}")
        folder = folder_of(run.header["device"]["slug"], checkout)
        folder.mkdir(parents=True, exist_ok=True)
        files.replace(folder / "rows.jsonl", "".join(f"{dump(row)}\n" for row in _kept(run.rows)))
        files.replace(folder / "run.json", dump(run.header, indent=2))
    except (RecordError, OSError) as error:
        raise CompareError(str(error)) from error
    return folder


def _objections(header: Mapping[str, Any], checkout: Path) -> Iterator[str]:
    device = header["device"]
    here = device_slug(device["type"])
    if header["schema_version"] != SCHEMA_VERSION:
        yield f"its schema is {header['schema_version']}, not {SCHEMA_VERSION}; measure again"
    if device["slug"] != here:
        yield f"it is of another device, {device['slug']}; this one is {here}"
    if header["git"].get("sha") is None:
        yield f"its commit is unknown: {header['git'].get('reason')}"
    if header["git"].get("dirty"):
        yield "it measured a tree with changes that no commit holds; commit them, measure again"
    if git(checkout)["dirty"] is not False:
        yield "this tree has changes that no commit holds; commit or stash them"
    if header.get("suspect", True):
        yield "its A/A control did not come out SAME; measure again on a quieter machine"


def _kept(rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        if row["metric"] in _KEPT or row["status"] != "ok" or row["stat"] == "median":
            yield row
