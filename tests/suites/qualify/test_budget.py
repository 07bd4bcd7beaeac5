"""How the time is divided."""

from __future__ import annotations

import pytest

from suites.qualify.budget import Share, allot
from suites.qualify.run import REPORT
from suites.qualify.stages import STAGES

FIRST, CORE, LAST = Share(1, 10), Share(8, 40, essential=True), Share(1, 20, most_s=30)


def test_free_time_is_divided_by_weight() -> None:
    assert allot([Share(1, 0), Share(3, 0)], 100) == 25
    assert allot([Share(3, 0)], 100) == 100


def test_time_left_over_falls_to_the_later_stages() -> None:
    assert allot([Share(1, 0), Share(1, 0)], 60) == 30
    assert allot([Share(1, 0)], 55) == 55


@pytest.mark.parametrize(("left", "seconds"), [(49, None), (50, 10), (140, 10), (540, 50)])
def test_stage_leaves_the_essential_its_least(left: float, seconds: float | None) -> None:
    assert allot([FIRST, CORE, LAST], left) == seconds


@pytest.mark.parametrize(("left", "seconds"), [(100, 70), (12, 12), (0, None), (-5, None)])
def test_essential_stage_runs_however_little_is_left(left: float, seconds: float | None) -> None:
    rest = [CORE, Share(0, 30, essential=True)]
    assert allot(rest, left) == seconds


def test_no_stage_gets_more_than_it_can_use() -> None:
    assert allot([LAST], 500) == 30


def test_stage_that_could_not_finish_is_left_out() -> None:
    assert allot([LAST], 19) is None


def played(minutes: float, taken: float = 1.0) -> dict[str, float | None]:
    """What each stage gets if it takes this share of what it is given."""
    left, given = 60 * minutes, {}
    for place, stage in enumerate(STAGES):
        shares = [each.share for each in STAGES[place:]]
        given[stage.name] = allot([*shares, REPORT], left)
        left -= taken * (given[stage.name] or 0)
    return given | {"left": left}


def test_nine_minutes_are_enough_for_everything() -> None:
    given = played(9)
    assert None not in given.values()
    assert (given["headline"] or 0) > 200
    assert (given["left"] or 0) >= REPORT.least_s


@pytest.mark.parametrize("minutes", [0.5, 1, 2, 3, 5, 20])
def test_headline_and_report_are_kept_whatever_the_time(minutes: float) -> None:
    given = played(minutes)
    assert (given["headline"] or 0) >= min(5, 60 * minutes / 10)
    assert (given["left"] or 0) >= min(REPORT.least_s, 0)
    assert sum(seconds or 0 for name, seconds in given.items() if name != "left") <= 60 * minutes


def test_quick_stages_make_room_for_the_headline() -> None:
    assert (played(9, taken=0.2)["headline"] or 0) > (played(9)["headline"] or 0)
