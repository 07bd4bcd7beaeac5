from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from dynadiag.bench.schedule import orders
from dynadiag.bench.statistics import (
    Ratio,
    Verdict,
    break_even,
    geomean,
    median_interval,
    paired_ratio,
    pooled,
    rounds_needed,
    verdict,
)

Samples = NDArray[np.float64]


def noisy_samples(seed: int, rounds: int, ratio: float = 1.0) -> Samples:
    """Seconds of two arms, the first `ratio` times as fast, on a machine that misbehaves.

    The clock ramps and walks, power-cap episodes slow a stretch of samples, coming first costs
    0.3 %, every sample has 0.6 % noise and one in a hundred is hit by a spike.
    """
    rng = np.random.default_rng(seed)
    slots = 2 * rounds
    drift = rng.uniform(-0.04, 0.04) * np.linspace(0, 1, slots)
    drift += np.cumsum(rng.normal(0, 6e-4, slots))
    for start in rng.integers(slots, size=1 + slots // 60):
        drift[start : start + rng.integers(5, 40)] += rng.uniform(0.02, 0.08)
    noise = rng.normal(0, 0.006, slots)
    spikes = (rng.random(slots) < 0.01) * rng.exponential(0.3, slots)
    logs = (drift + noise + spikes).reshape(rounds, 2)
    logs[:, 0] += 0.003
    arms = np.array(list(islice(orders(2, seed), rounds)))
    samples: Samples = np.empty((2, rounds))
    samples[arms.T, np.arange(rounds)] = logs.T
    samples[0] -= math.log(ratio)
    return 1e-3 * np.exp(samples)


def measured(seed: int, ratio: float) -> Ratio:
    """One measurement of `ratio` as the suite does it: a pilot, then as many rounds as needed."""
    pilot = noisy_samples(10_000 + seed, 30, ratio)
    rounds = rounds_needed(list(pilot), target=0.0025, least=100, cap=1000)
    return paired_ratio(*noisy_samples(seed, rounds, ratio), draws=500)


@pytest.fixture(scope="module")
def equal_arms() -> list[Ratio]:
    return [measured(seed, 1.0) for seed in range(300)]


def test_equal_arms_are_hardly_ever_told_apart(equal_arms: list[Ratio]) -> None:
    verdicts = [verdict(ratio) for ratio in equal_arms]
    false = sum(found in (Verdict.FASTER, Verdict.SLOWER) for found in verdicts)
    assert false <= 0.02 * len(verdicts)
    assert verdicts.count(Verdict.SAME) >= 0.95 * len(verdicts)


def test_the_interval_covers_the_truth(equal_arms: list[Ratio]) -> None:
    covered = sum(ratio.lo <= 1.0 <= ratio.hi for ratio in equal_arms)
    assert covered >= 0.97 * len(equal_arms)


def test_the_pilot_predicts_the_width(equal_arms: list[Ratio]) -> None:
    widths = [ratio.half_width for ratio in equal_arms]
    assert np.median(widths) < 0.003
    assert np.quantile(widths, 0.95) < 0.005


def test_two_per_cent_is_found() -> None:
    verdicts = [verdict(measured(seed, 1.02)) for seed in range(200)]
    assert verdicts.count(Verdict.FASTER) >= 0.95 * len(verdicts)


@pytest.mark.parametrize("rounds", [10, 30])
def test_few_rounds_still_cover(rounds: int) -> None:
    ratios = [paired_ratio(*noisy_samples(seed, rounds), draws=500) for seed in range(300)]
    covered = sum(ratio.lo <= 1.0 <= ratio.hi for ratio in ratios)
    assert covered >= 0.97 * len(ratios)


def test_the_noise_model_defeats_sequential_medians() -> None:
    errors = [
        abs(math.log(np.median(one[0]) / np.median(other[1])))
        for one, other in (
            (noisy_samples(2 * k, 100), noisy_samples(2 * k + 1, 100)) for k in range(50)
        )
    ]
    assert np.quantile(errors, 0.9) > 0.02


def test_ratio_is_the_baseline_over_the_subject() -> None:
    ratio = paired_ratio(np.full(20, 1.0), np.full(20, 3.0))
    assert (ratio.value, ratio.lo, ratio.hi) == pytest.approx((3.0, 3.0, 3.0))
    assert (ratio.n, ratio.level, ratio.half_width) == (20, 0.99, 0.0)


def test_ratio_is_the_same_twice_and_inverts() -> None:
    samples = noisy_samples(5, 60, 1.3)
    there, back = paired_ratio(*samples), paired_ratio(*samples[::-1])
    assert there == paired_ratio(*samples)
    assert there.value * back.value == pytest.approx(1.0)
    assert there.lo * back.hi == pytest.approx(1.0, rel=2e-3)


def test_too_few_rounds_have_no_finite_interval() -> None:
    ratio = paired_ratio(np.full(7, 1.0), np.full(7, 3.0))
    assert (ratio.lo, ratio.hi) == (0.0, math.inf)
    assert verdict(ratio) is Verdict.AMBIGUOUS
    assert math.isfinite(paired_ratio(np.full(8, 1.0), np.full(8, 3.0)).half_width)


@pytest.mark.parametrize(
    ("subject", "baseline", "message"),
    [
        ([], [], "non-empty vector"),
        ([[1.0]], [[1.0]], "non-empty vector"),
        ([1.0, 2.0], [1.0], "same rounds, got 2 and 1"),
        ([1.0, 0.0], [1.0, 1.0], "positive and finite"),
        ([1.0, math.nan], [1.0, 1.0], "positive and finite"),
    ],
)
def test_bad_samples_are_refused(subject: list[float], baseline: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_ratio(subject, baseline)


def interval(lo: float, hi: float, n: int = 100) -> Ratio:
    return Ratio(math.sqrt(lo * hi), lo, hi, n, 0.99)


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (1.011, 1.3, Verdict.FASTER),
        (1.009, 1.3, Verdict.AMBIGUOUS),
        (0.992, 1.009, Verdict.SAME),
        (0.985, 1.005, Verdict.AMBIGUOUS),
        (0.7, 0.99, Verdict.SLOWER),
        (0.7, 0.995, Verdict.AMBIGUOUS),
        (0.9, 1.1, Verdict.AMBIGUOUS),
    ],
)
def test_verdict_at_the_default_margin(lo: float, hi: float, expected: Verdict) -> None:
    assert verdict(interval(lo, hi)) is expected


def test_margin_is_symmetrical_in_the_logarithm() -> None:
    assert verdict(interval(1.031, 1.2), margin=0.03) is Verdict.FASTER
    assert verdict(interval(1 / 1.2, 1 / 1.031), margin=0.03) is Verdict.SLOWER


def test_rounds_grow_with_the_square_of_the_width() -> None:
    pilot = list(noisy_samples(0, 30))
    width = paired_ratio(*pilot, draws=300).half_width
    assert rounds_needed(pilot, width / 3, least=10, cap=10_000) == pytest.approx(270, abs=1)
    assert rounds_needed(pilot, width / 3, least=500, cap=10_000) == 500
    assert rounds_needed(pilot, width / 3, least=10, cap=100) == 100
    assert rounds_needed(pilot[:1], 0.01, least=10, cap=100) == 10


def test_rounds_follow_the_noisiest_arm() -> None:
    subject, quiet = noisy_samples(0, 30)
    wild = subject * np.exp(np.random.default_rng(0).normal(0, 0.1, 30))
    both = rounds_needed([subject, quiet, wild], 0.01, least=1, cap=10_000)
    assert both == rounds_needed([subject, wild], 0.01, least=1, cap=10_000)


def test_median_interval_holds_the_median() -> None:
    samples = np.random.default_rng(0).lognormal(0.0, 0.1, 200)
    found = median_interval(samples)
    assert found.value == pytest.approx(np.median(samples))
    assert 0.95 < found.lo < found.value < found.hi < 1.05
    wide, narrow = median_interval(samples, 0.999), median_interval(samples, 0.9)
    assert wide.lo < found.lo < narrow.lo


def test_geomean() -> None:
    assert geomean([2.0, 8.0]) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="positive"):
        geomean([1.0, -1.0])


def test_pooling_narrows_what_agrees_and_widens_what_does_not() -> None:
    agreeing = pooled([interval(0.98, 1.02, n=50)] * 16)
    assert agreeing.value == pytest.approx(1.0, abs=1e-3)
    assert agreeing.n == 800
    assert agreeing.half_width == pytest.approx(interval(0.98, 1.02).half_width / 4)
    split = pooled([interval(0.89, 0.91), interval(1.09, 1.11)] * 8)
    assert split.half_width > 0.05


def test_pooling_trusts_the_precise() -> None:
    found = pooled([interval(0.995, 1.005)] * 4 + [interval(0.4, 4.0)])
    assert verdict(found) is Verdict.SAME


def test_pooling_survives_a_case_without_an_interval() -> None:
    short = Ratio(1.0, 0.0, math.inf, 5, 0.99)
    assert math.isfinite(pooled([interval(0.98, 1.02)] * 8 + [short]).half_width)
    assert verdict(pooled([short])) is Verdict.AMBIGUOUS
    with pytest.raises(ValueError, match="no ratios"):
        pooled([])


def exact(value: float) -> Ratio:
    return Ratio(value, value * 0.999, value * 1.001, 100, 0.99)


def test_break_even_is_interpolated_on_the_logarithm() -> None:
    found = break_even([0.9, 0.5, 0.8], [exact(2 * 1.01), exact(0.2), exact(1.01 / 2)])
    assert found == pytest.approx(0.85)


def test_break_even_needs_every_higher_sparsity_to_win() -> None:
    sparsities = [0.5, 0.7, 0.8, 0.9]
    found = break_even(sparsities, [exact(1.5), exact(0.8), exact(1.2), exact(2.0)])
    assert found is not None
    assert 0.7 < found < 0.8
    assert break_even(sparsities, [exact(1.5), exact(2.0), exact(2.0), exact(0.9)]) is None


def test_break_even_at_the_edges() -> None:
    assert break_even([0.5, 0.9], [exact(1.2), exact(2.0)]) == 0.5
    assert break_even([0.5, 0.9], [exact(0.2), exact(0.5)]) is None
    assert break_even([], []) is None


def test_break_even_does_not_interpolate_into_an_uncertain_win() -> None:
    uncertain = Ratio(1.3, 0.9, 1.9, 10, 0.99)
    assert break_even([0.8, 0.9], [uncertain, exact(2.0)]) == 0.9
