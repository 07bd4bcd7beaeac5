"""The page: one HTML file with everything inside, readable without a network or scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2

from . import render
from .chapters import Chapter
from .tables import Table

PAGE_BYTES = 2_900_000


def page(chapters: Sequence[Chapter], comparison: Sequence[Table]) -> str:
    """Fill the template; pictures that would make the page too heavy become links to files."""
    pictures = [picture for chapter in chapters for picture in chapter.pictures]
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("page.html")
    bare = template.render(chapters=chapters, comparison=comparison, inlined=set())
    inlined = render.allot(pictures, PAGE_BYTES - len(bare.encode()))
    return template.render(chapters=chapters, comparison=comparison, inlined=inlined)
