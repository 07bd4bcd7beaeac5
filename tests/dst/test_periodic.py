from __future__ import annotations

import pytest

from dynadiag.dst.methods import SET, RigL
from dynadiag.dst.periodic import PeriodicMethod


def steps(method: PeriodicMethod, total: int) -> list[int]:
    return [step for step in range(total) if method.updates(step, total)]


def test_updates_come_every_so_many_steps_until_late() -> None:
    assert steps(RigL(), 4000) == list(range(100, 3001, 100))
    assert steps(RigL(every=10, until=0.1), 1000) == list(range(10, 101, 10))


def test_short_trainings_are_updated_more_often() -> None:
    assert steps(RigL(), 400) == list(range(20, 301, 20))
    assert steps(RigL(), 10) == list(range(1, 8))


@pytest.mark.parametrize("total", range(2, 50))
def test_there_is_an_update_in_any_training_and_the_last_one_is_known(total: int) -> None:
    for until in (0.01, 0.5, 1.0):
        method = RigL(until=until)
        assert steps(method, total)
        assert steps(method, total)[-1] == method.last_update(total)


def test_the_share_exchanged_falls_to_nothing_except_for_set() -> None:
    assert RigL().fraction(0, 100) == pytest.approx(0.3)
    assert RigL().fraction(75, 100) == pytest.approx(0.0)
    assert SET().fraction(75, 100) == 0.3
