"""The page as a whole: complete, self-contained, escaped, honest about what is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dynadiag.bench.records import RecordError
from dynadiag.reports import html, write_report
from dynadiag.reports.figures import DRAWINGS

Make = Callable[..., Path]
SMALL = {
    "shapes": ("768x768", "768x3072"),
    "batches": (197,),
    "sparsities": (0.5, 0.9),
    "dtypes": ("float32",),
    "directions": ("forward",),
}
TINY = SMALL | {"shapes": ("768x768",), "arms": ("dense", "dense_again", "diagonal", "csr")}
SUSPECT = {
    "suspect": True,
    "aa": {"ratio": 1.03, "lo": 1.02, "hi": 1.04, "n": 400, "verdict": "FASTER", "cases": 20},
}


class Page(HTMLParser):
    """Tags, ids and references of a page; fails on a tag that is closed out of order."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.urls: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._open += [] if tag in self.VOID else [tag]
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            self.urls += [value or ""] if name in ("src", "href", "xlink:href") else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open += [] if tag not in self.VOID else [tag]
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def report(make_run: Make) -> Path:
    return write_report([make_run(**SMALL, samples=True)])


@pytest.fixture
def one_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the speedup only, where a test is about words."""
    for name in set(DRAWINGS) - {"speedup"}:
        monkeypatch.delitem(DRAWINGS, name)


def test_the_page_and_its_figures_are_written(report: Path) -> None:
    text = report.read_text()
    page = Page(text)

    assert report.name == "report.html"
    stems = {path.stem for path in (report.parent / "fig").glob("*.csv")} - {"table"}
    assert "speedup-eager-float32-forward" in stems
    for stem in stems:
        for suffix in (".svg", "-dark.svg", ".png"):
            assert (report.parent / "fig" / f"{stem}{suffix}").stat().st_size > 500
        assert f"fig/{stem}.svg" in page.urls
    assert page.tags.count("svg") == 2 * len(stems)
    assert len(text) < 3e6


def test_the_page_needs_no_network(report: Path) -> None:
    page = Page(report.read_text())

    outside = [url for url in page.urls if not url.startswith(("#", "fig/"))]
    assert outside == []
    assert {"link", "img", "iframe"}.isdisjoint(page.tags)
    assert "@import" not in report.read_text()


def test_every_id_is_unique_and_every_reference_meets_one(report: Path) -> None:
    text = report.read_text()
    page = Page(text)

    assert len(page.ids) == len(set(page.ids))
    inner = {url[1:] for url in page.urls if url.startswith("#")}
    inner |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert inner <= set(page.ids)


def test_figures_are_the_same_bytes_every_time(make_run: Make, tmp_path: Path) -> None:
    run = make_run(**TINY)
    pages = [write_report([run], tmp_path / name).read_bytes() for name in ("one", "two")]

    assert pages[0] == pages[1]


def test_the_summary_leads_and_says_where_diagonals_lose(report: Path) -> None:
    text = report.read_text()

    assert text.index('class="lead"') < text.index("<table") < text.index("<svg")
    assert "On AMD EPYC 9B45, the float32 forward pass of a diagonal layer at 90 %" in text
    assert re.search(
        r"Where diagonals lose: to dense in 2 of 4 cases \(float32 forward at 50 %", text
    )
    assert "Control (A/A)" in text
    assert "Energy is not known here: no powercap counter." in text
    assert "uncommitted changes" in text
    assert "dynadiag bench --mode quick -k &#39;float32 and not llama&#39;" in text


@pytest.mark.usefixtures("one_drawing")
def test_a_suspect_run_claims_nothing(make_run: Make) -> None:
    text = write_report([make_run(**TINY, header=SUSPECT)]).read_text()

    assert "This run is suspect, so nothing is claimed from it" in text
    assert "1.0300× (1.0200 to 1.0400) over 20 cases: FASTER" in text
    assert "Where diagonals lose" not in text
    assert 'class="win"' not in text
    assert not re.search(r"runs at [\d.]+× the speed", text)


@pytest.mark.usefixtures("one_drawing")
def test_a_run_without_control_says_so(make_run: Make) -> None:
    text = write_report([make_run(**TINY, header={"suspect": True, "aa": None})]).read_text()

    assert "the run has no control" in text


@pytest.mark.usefixtures("one_drawing")
def test_wrong_and_failed_arms_are_named_and_not_numbered(make_run: Make) -> None:
    run = make_run(**TINY, status={"diagonal": "wrong", "csr": "failed"})
    text = write_report([run]).read_text()

    assert "1 wrong" in text
    assert "1 failed" in text
    assert "diagonal made up to be wrong" in text
    assert "wrong or failed in 2 cases" in text


def test_everything_skipped_is_still_a_page(make_run: Make) -> None:
    status = dict.fromkeys(("dense", "dense_again", "diagonal", "csr"), "skipped")
    text = write_report([make_run(**TINY, status=status)]).read_text()

    Page(text)
    assert "no ratio was measured" in text
    assert "csr made up to be skipped" in text


def test_names_from_records_cannot_break_out(make_run: Make) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    run = make_run(**TINY, header={"argv": [attack], "device": {"name": attack}})
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["model"] = row["reason"] = row["config"] = attack
        row["flags"] = [attack]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    text = write_report([run]).read_text()
    page = Page(text)

    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    data = json.loads(re.search(r'class="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert data["model"][0] == attack


def test_the_data_of_the_table_matches_its_rows(report: Path) -> None:
    text = report.read_text()
    data = json.loads(re.search(r'class="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    table = re.search(r'<table class="full">.*?</table>', text, re.S)[0]  # type: ignore[index]

    assert {len(column) for column in data.values()} == {table.count("<tr>") - 1}
    assert table.count("<th ") == len(data) - 1
    assert "NaN" not in json.dumps(data)


@pytest.mark.usefixtures("one_drawing")
def test_several_runs_stand_side_by_side(make_run: Make, tmp_path: Path) -> None:
    runs = [make_run(name, **TINY) for name in ("first", "second")]

    path = write_report(runs, tmp_path / "both")
    text = path.read_text()

    Page(text)
    assert "Runs side by side" in text
    assert text.count("<article") == 2
    assert (tmp_path / "both/fig/run2-speedup-eager-float32-forward.svg").is_file()
    assert not (runs[0] / "report.html").exists()


def test_a_page_too_heavy_links_the_figures_it_leaves_out(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "PAGE_BYTES", 120_000)
    text = write_report([make_run(**TINY)]).read_text()

    assert "Left out to keep this page small" in text
    assert 0 < text.count("<svg") < 14
    assert len(text) < 130_000


def test_no_run_is_an_error() -> None:
    with pytest.raises(RecordError, match="no run given"):
        write_report([])


@pytest.mark.usefixtures("one_drawing")
def test_a_folder_that_cannot_be_written_is_one_clear_error(make_run: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RecordError, match=r"cannot write the report to .*file.*--out"):
        write_report([make_run(**TINY)], tmp_path / "file")


def test_the_script_is_short_and_fetches_nothing() -> None:
    script = (Path(html.__file__).parent / "templates/page.js").read_text()

    assert len(script.splitlines()) <= 150
    assert not re.search(r"fetch|XMLHttpRequest|import|innerHTML|eval", script)


def test_a_run_whose_every_case_failed_is_still_a_page(make_run: Make) -> None:
    run = make_run(**TINY)
    rows = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    closing = [row | {"status": "failed", "reason": "boom"} for row in rows if row["arm"] is None]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in closing))

    text = write_report([run]).read_text()

    Page(text)
    assert "no ratio was measured" in text
    assert "boom" in text
