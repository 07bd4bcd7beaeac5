"""Figures as files (SVG, PNG, CSV) and as SVG that many of can live in one page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from . import load, style
from .figures import Drawing

PNG_DPI = 200


@dataclass(frozen=True)
class Picture:
    """One figure of one page.

    Attributes:
        name: stem of its files.
        section: key of its drawing.
        label: which part of the run it shows, as in ``eager · float32 · forward``.
        rank: 0 for the first part of its section.
        svg: markup for the page by theme.
    """

    name: str
    section: str
    label: str
    rank: int
    svg: dict[str, str]

    @property
    def bytes(self) -> int:
        """What it adds to the page."""
        return sum(len(markup.encode()) for markup in self.svg.values())


def pictures(
    drawings: Mapping[str, Drawing], frame: pd.DataFrame, folder: Path, prefix: str = ""
) -> Iterator[Picture]:
    """Draw everything ``frame`` has points for, and write the files to ``folder``."""
    for section, drawing in drawings.items():
        for rank, (key, part) in enumerate(load.variants(frame, drawing.SPLIT)):
            if not drawing.points(part).empty:
                name = "-".join(re.sub(r"[^\w.]+", "_", word) for word in (section, *key))
                svg = _write(drawing, part, folder / f"{prefix}{name}")
                yield Picture(prefix + name, section, " · ".join(key), rank, svg)


def _write(drawing: Drawing, frame: pd.DataFrame, stem: Path) -> dict[str, str]:
    drawing.points(frame).to_csv(stem.parent / f"{stem.name}.csv", index=False)
    markup = {}
    for theme in style.THEMES:
        figure = drawing.figure(frame, theme)
        dark = theme is style.DARK
        svg = to_svg(figure, theme, salt=f"dynadiag-{stem.name}-{theme.name}")
        suffix = "-dark" if dark else ""
        (stem.parent / f"{stem.name}{suffix}.svg").write_text(svg, encoding="utf-8")
        if not dark:
            with matplotlib.rc_context(theme.settings()):
                figure.savefig(stem.parent / f"{stem.name}.png", dpi=PNG_DPI)
        markup[theme.name] = inline(svg)
    return markup


def to_svg(figure: Figure, theme: style.Theme, salt: str) -> str:
    """Save as SVG whose bytes depend on nothing but the figure and ``salt``."""
    with matplotlib.rc_context(theme.settings() | {"svg.hashsalt": salt}):
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _shorter(stream.getvalue())


def _shorter(svg: str) -> str:
    """Drop digits beyond a hundredth of a point, which no screen shows."""
    places = re.compile(r'(?<=\s)(?:d|x|y|transform|points|width|height)="[^"]*"')
    return places.sub(lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)


def inline(svg: str) -> str:
    """Make a saved SVG fit to stand in a page beside others.

    Drops the prologue, the metadata, white space, the font (the page sets it) and the ids of
    groups, which repeat from figure to figure and which nothing refers to. The ids that are
    referred to are hashes of the salt, so no two figures share one.
    """
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    svg = re.sub(r"\s+", " ", svg).replace("> <", "><")
    width = float(svg.partition('viewBox="0 0 ')[2].partition(" ")[0])
    size = f'style="max-width:{width * 4 / 3:.0f}px;min-width:{width:.0f}px"'
    return re.sub(r'^<svg ([^>]*?)width="[^"]*"', rf"<svg {size} \1", svg, count=1)


def allot(drawn: Sequence[Picture], limit: int) -> set[str]:
    """Names of the pictures that fit a page of ``limit`` bytes: first parts first."""
    fits, total = set(), 0
    for picture in sorted(drawn, key=lambda picture: picture.rank):
        total += picture.bytes
        if total <= limit:
            fits.add(picture.name)
    return fits
