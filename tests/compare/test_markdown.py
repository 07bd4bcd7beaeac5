from __future__ import annotations

from dataclasses import replace

from dynadiag.compare import markdown, terminal
from dynadiag.compare.config import Config
from dynadiag.compare.judge import compare
from dynadiag.compare.outcome import Comparison

from .fake_runs import Fake, make_run


def large(count: int) -> Comparison:
    slow = {"diagonal": 1.5}
    found = compare(make_run(Fake(seed=1, slow=slow)), make_run(Fake()), Config())
    first = found.changes[0]
    many = tuple(replace(first, case=f"{number:012x}") for number in range(count))
    return replace(found, changes=many)


def test_a_huge_finding_stays_below_what_a_summary_may_hold() -> None:
    text = markdown.text(large(20_000))
    assert 800_000 < len(text.encode()) < 1_000_000
    assert "more are in compare.json" in text
    assert text.endswith("</details>\n")


def test_what_is_left_out_is_counted() -> None:
    text = markdown.text(large(20_000))
    shown = text.partition("<details>")[2].count("\n| forward-")
    left_out = int(text.partition(" more are in compare.json")[0].rpartition("\n")[2])
    means = 2
    assert shown + left_out + means == 20_000 + means
    assert text.count("\n| geometric mean of all cases | diagonal | csr_torch") == 2


def test_the_terminal_counts_what_it_leaves_out() -> None:
    assert "... and 402 more" in terminal.text(large(500))


def test_a_bar_in_a_reason_stays_in_its_cell() -> None:
    found = large(1)
    changes = (replace(found.changes[0], note="a|b"),)
    assert "a\\|b" in markdown.text(replace(found, changes=changes))


def test_one_cause_for_all_is_suspected_aloud() -> None:
    assert "one cause for all?" in markdown.text(large(10))
