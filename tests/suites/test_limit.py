"""Limits in time."""

from __future__ import annotations

import threading
import time

import pytest

from suites.limit import OutOfTime, limit


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)


def test_work_that_takes_too_long_is_stopped() -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime), limit(0.05):
        spin(5)
    assert time.monotonic() - began < 1


def test_work_that_is_done_in_time_hears_nothing() -> None:
    with limit(0.05):
        pass
    spin(0.1)


def test_no_limit_is_none() -> None:
    with limit(None):
        spin(0.02)


def test_inner_limit_does_not_end_the_outer_one() -> None:
    with limit(5):
        with pytest.raises(OutOfTime), limit(0.03):
            spin(5)
        spin(0.05)


def test_outer_limit_is_due_within_the_inner_one_and_again_after_it() -> None:
    def work() -> None:
        with pytest.raises(OutOfTime), limit(5):
            spin(1)
        spin(1)

    with pytest.raises(OutOfTime), limit(0.05):
        work()


def test_no_except_for_failures_takes_it_for_one() -> None:
    assert not issubclass(OutOfTime, Exception)


def test_threads_go_unlimited() -> None:
    ended: list[bool] = []

    def work() -> None:
        with limit(0.01):
            spin(0.05)
        ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [True]
