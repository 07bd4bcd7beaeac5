from __future__ import annotations

import math

import pandas as pd
import pytest

from dynadiag.reports import tally


def cases(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_wins_ties_losses_and_what_is_missing() -> None:
    found = tally.tally(
        cases(
            speedup=[4.0, 1.0, 0.25, 1.1, math.nan],
            speedup_verdict=["FASTER", "SAME", "SLOWER", "AMBIGUOUS", ""],
        )
    )

    assert (found.wins, found.ties, found.losses, found.undecided) == (1, 1, 1, 1)
    assert (found.compared, found.missing) == (4, 1)
    assert found.geomean == pytest.approx(1.1**0.25)
    assert found.sentence() == "1 faster, 1 same, 1 slower, 1 undecided"


def test_nothing_compared_is_not_a_ratio_of_one() -> None:
    found = tally.tally(cases(speedup=[math.nan], speedup_verdict=[""]))

    assert math.isnan(found.geomean)
    assert found.compared == 0


def test_the_headline_sparsity_is_the_one_nearest_ninety_per_cent() -> None:
    assert tally.headline_sparsity(cases(sparsity=[0.5, 0.8, 0.95, 0.99])) == 0.95


def test_break_even_lies_between_the_last_loss_and_the_first_win() -> None:
    lost_then_won = cases(
        sparsity=[0.9, 0.5],
        speedup=[4.0, 0.5],
        speedup_lo=[3.9, 0.49],
        speedup_hi=[4.1, 0.51],
    )

    found = tally.break_even(lost_then_won)
    assert found is not None
    assert 0.5 < found < 0.9


def test_break_even_is_none_without_an_interval() -> None:
    blind = cases(sparsity=[0.9], speedup=[4.0], speedup_lo=[math.nan], speedup_hi=[math.nan])

    assert tally.break_even(blind) is None
