"""The table of registers in kernels/README.md, made by compiling every variant."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from . import compiler
from .resources import Resources
from .variants import ALL, SHARED_RATE, Variant

ARCHS = ("sm_80", "sm_90")
COMPILED = (*ALL, SHARED_RATE)
README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- resources: begin -->", "<!-- resources: end -->"

Found = dict[tuple[str, Variant], Resources]


def collect(archs: Iterable[str] = ARCHS) -> Found:
    """Compile every variant for every machine, a source and dtype at a time (about a minute).

    Raises:
        BuildError: NVRTC is missing, or a source does not compile.
    """
    found: Found = {}
    for arch in archs:
        for (source, _), group in groupby(COMPILED, key=lambda one: (one.source, one.dtype)):
            variants = list(group)
            program = compiler.compile_source(source, [one.expression for one in variants], arch)
            found |= {(arch, one): program.resources[one.expression] for one in variants}
    return found


def table(found: Found) -> str:
    """Return the table in Markdown: a row for each kernel and dtype."""
    archs = list(dict.fromkeys(arch for arch, _ in found))
    header = ["kernel", "dtype", "variants", *archs]
    rows = [header, ["---"] * len(header)]
    kinds = dict.fromkeys((variant.kernel, variant.dtype) for _, variant in found)
    for kernel, dtype in kinds:
        variants = [one for one in COMPILED if (one.kernel, one.dtype) == (kernel, dtype)]
        ranges = [_range([found[arch, one].registers for one in variants]) for arch in archs]
        rows.append([f"`{kernel}`", str(dtype).split(".")[1], str(len(variants)), *ranges])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    title = f"Registers of a thread, NVRTC {compiler.nvrtc_version()}:"
    return "\n".join([title, "", *lines])


def _range(numbers: list[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least}-{most}"


def committed() -> str:
    """Return the table that stands in README.md, without its markers."""
    return README.read_text().split(BEGIN)[1].split(END)[0].strip()


def refresh(found: Found) -> None:
    """Put the table into README.md, between its markers."""
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}")
