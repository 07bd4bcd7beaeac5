"""Tables at the foot of the page: what was chosen, flagged, checked, metered, and done when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from . import words
from .load import Records
from .tables import Cell, Table

# What each flag of a row means to its reader.
FLAGS = {
    "launch_bound": "the host was too slow to hide its launches: they are in the time",
    "unresolved": "shorter than the clock of the device resolves well",
    "power_capped": "the card ran at its power limit, the normal state under dense products",
    "throttled": "heat or hardware held the clocks down, after two repetitions too",
    "precision_not_reached": "the time for the case was over before the interval was narrow",
    "outside_rounds": "too slow for the rounds: a few calls apart from them",
    "peak_differs": "repeated measurements of the memory disagree",
    "energy_disagrees": "energy counter and power sensor differ by more than 5 %",
    "energy_unchecked": "the card has no power sensor to check its energy counter with",
    "power_averaged": "the power sensor shows a mean over the last second",
}


def flags(frame: pd.DataFrame) -> Table:
    """How often each flag was raised, by format, and what it means."""
    each = frame.assign(flag=frame["flags"].str.split(", ")).explode("flag")
    counts = each[each["flag"] != ""].groupby(["flag", "format"], sort=True).size()
    rows = [
        [Cell(flag), Cell(name), Cell(str(count)), Cell(FLAGS.get(flag, words.MISSING))]
        for (flag, name), count in counts.items()
    ]
    return Table("Flags", ["flag", "format", "arms", "meaning"], rows)


def chosen(frame: pd.DataFrame) -> Table:
    """Which algorithm served each arm, and in how many cases."""
    known = frame[(frame["time"] > 0) & frame["config"].notna() & (frame["config"] != "")]
    by = ["arm", "regime", "dtype", "direction", "config"]
    rows = [
        [*(Cell(str(part)) for part in key), Cell(str(len(part))), Cell(_shapes(part))]
        for key, part in known.groupby(by, sort=True)
    ]
    return Table("Algorithms", [*by[:-1], "algorithm", "cases", "shapes"], rows)


def _shapes(cases: pd.DataFrame) -> str:
    return words.listing(sorted(set(cases["shape"])))


def energy(frame: pd.DataFrame) -> Table:
    """Joules of a call, gross and net of an idle device, its power, and its time when alone."""
    rows = [
        [
            *(Cell(str(case[name])) for name in ("shape", "regime", "dtype", "direction")),
            *(Cell(words.number(case["batch"])), Cell(words.percent(case["sparsity"]))),
            *(Cell(case["arm"]), Cell(words.joules(case["energy"]))),
            *(Cell(words.joules(case["energy_net"])), Cell(words.watts(case["power"]))),
            Cell(words.seconds(case["sustained"])),
        ]
        for _, case in frame[frame["energy"] > 0].iterrows()
    ]
    columns = ["shape", "regime", "dtype", "direction", "batch", "sparsity", "arm"]
    caption = f"Energy of a call ({words.NVML})" if frame["card"].any() else "Energy of a call"
    return Table(caption, [*columns, "gross", "net of idle", "power", "time alone"], rows)


def checks(records: Records) -> Table:
    """How the kernels fared against fp64, by direction and dtype."""
    done = records.checks[records.checks["metric"] == "error"]
    rows = []
    for (direction, dtype), part in done.groupby(["direction", "dtype"], sort=True):
        wrong = part[part["status"] != "ok"]
        reasons = "; ".join(dict.fromkeys(wrong["reason"].fillna("").astype(str)))
        worst = pd.to_numeric(part["value"], errors="coerce").max()
        texts = [direction, dtype, str(len(part)), str(len(wrong)), f"{worst:.2g}", reasons]
        rows.append([Cell(str(text), tone="bad" if len(wrong) else "") for text in texts])
    columns = ["direction", "dtype", "products", "wrong or failed", "largest error", "reason"]
    return Table("Kernels against fp64", columns, rows)


def stages(header: Mapping[str, Any]) -> Table:
    """What a qualification did with its time."""
    rows = [
        [Cell(str(each.get(name, ""))) for name in ("name", "status")]
        + [Cell(f"{each.get('seconds', 0.0):.0f} s"), Cell(str(each.get("note", "")))]
        for each in header.get("stages") or ()
    ]
    return Table("Stages", ["stage", "status", "took", "found"], rows)


def memory(frame: pd.DataFrame) -> Table:
    """What a call took of a card beyond what torch handed out, at most, by arm."""
    known = frame[frame["peak_reserved"].notna() | frame["device_used"].notna()]
    most = known.groupby("arm", sort=True)[["peak_bytes", "peak_reserved", "device_used"]].max()
    rows = [
        [Cell(str(arm)), *(Cell(words.size(value)) for value in sizes)]
        for arm, sizes in zip(most.index, most.to_numpy(), strict=True)
    ]
    columns = ["arm", "handed out", "reserved", "missing on the device"]
    return Table("Peak memory of a card, largest of all cases", columns, rows)


def all_of(records: Records) -> list[Table]:
    """The tables of this file that hold something, flags always."""
    frame = records.frame
    optional = [stages(records.header), checks(records), energy(frame), memory(frame)]
    return [*(table for table in (*optional, chosen(frame)) if table.rows), flags(frame)]
