from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynadiag import geometry
from dynadiag.dst.distributions import Allotment, Sizes, distribute, distributions

SPARSITIES = st.floats(0, 0.99)


def diagonal(out_features: int, in_features: int, positions: int = 1, parts: int = 1) -> Sizes:
    unit = geometry.diagonal_length(out_features, in_features)
    return Sizes(out_features, in_features, unit, parts, positions)


@st.composite
def layers(draw: st.DrawFn) -> list[Sizes]:
    features = st.integers(1, 300)
    kind = st.sampled_from(["diagonal", "entry"])
    drawn = []
    for _ in range(draw(st.integers(1, 6))):
        out_features, in_features = draw(features), draw(features)
        unit = min(out_features, in_features) if draw(kind) == "diagonal" else 1
        parts, positions = draw(st.sampled_from([1, 3])), draw(st.integers(1, 200))
        drawn.append(Sizes(out_features, in_features, unit, parts, positions))
    return drawn


def kept_weights(sizes: list[Sizes], allotted: list[Allotment]) -> list[int]:
    return [one.kept * each.step for each, one in zip(sizes, allotted, strict=True)]


@given(layers(), SPARSITIES, st.sampled_from(["erk", "compute"]))
def test_the_budget_is_met_to_one_unit(sizes: list[Sizes], sparsity: float, name: str) -> None:
    budget = (1 - sparsity) * sum(each.weights for each in sizes)
    one_each = sum(each.step for each in sizes)
    largest = max(each.step for each in sizes)
    if budget < one_each / 2:
        with pytest.raises(ValueError, match="ask for at most"):
            distribute(name, sizes, sparsity)
        return
    allotted = distribute(name, sizes, sparsity)
    assert abs(sum(kept_weights(sizes, allotted)) - max(budget, one_each)) <= largest
    assert all(1 <= one.kept <= each.units for each, one in zip(sizes, allotted, strict=True))


@given(layers(), SPARSITIES, st.sampled_from(["erk", "compute"]))
def test_a_layer_gets_its_share_to_one_unit_and_no_unit_is_left_that_fits(
    sizes: list[Sizes], sparsity: float, name: str
) -> None:
    budget = (1 - sparsity) * sum(each.weights for each in sizes)
    if sum(each.step for each in sizes) > budget:
        return
    allotted = distribute(name, sizes, sparsity)
    kept = kept_weights(sizes, allotted)
    steps = [e.step for e, one in zip(sizes, allotted, strict=True) if one.kept < e.units]
    assert budget - sum(kept) <= min(steps, default=1) - 0.5 + 1e-6
    for each, one, weights in zip(sizes, allotted, kept, strict=True):
        more = weights - (1 - one.asked) * each.weights
        assert more >= -each.step * (1 + 1e-9)
        # More than its share to one unit gets only who fills the budget.
        assert more <= each.step * (1 + 1e-9) or sum(kept) <= budget + 0.5


def test_small_units_take_what_large_ones_leave() -> None:
    first, second = distribute("compute", [diagonal(256, 64), diagonal(256, 256)], 0.99)
    assert (first.kept, second.kept) == (4, 2)  # 768 of 819 weights; rounded alone 704


@given(st.integers(1, 400), st.integers(1, 400), SPARSITIES)
def test_uniform_keeps_as_many_diagonals_as_a_single_layer(
    out_features: int, in_features: int, sparsity: float
) -> None:
    (allotted,) = distribute("uniform", [diagonal(out_features, in_features)], sparsity)
    expected = geometry.num_diagonals(out_features, in_features, sparsity)
    assert allotted == Allotment(expected, sparsity)


@given(st.integers(1, 400), st.integers(1, 400), SPARSITIES)
def test_alone_a_layer_gets_the_whole_budget(
    out_features: int, in_features: int, sparsity: float
) -> None:
    exact = (1 - sparsity) * max(out_features, in_features)
    if exact < 0.5:
        with pytest.raises(ValueError, match="ask for at most"):
            distribute("compute", [diagonal(out_features, in_features)], sparsity)
        return
    (allotted,) = distribute("compute", [diagonal(out_features, in_features)], sparsity)
    assert abs(allotted.kept - max(1, exact)) <= 0.5 + 1e-9


def rigl_densities(sizes: list[tuple[int, int]], sparsity: float) -> list[float]:
    """Layers denser than 1 become dense, and the rest is shared again (arXiv 1911.11134)."""
    dense: set[int] = set()
    while True:
        budget = (1 - sparsity) * sum(m * n for m, n in sizes)
        budget -= sum(math.prod(sizes[i]) for i in dense)
        rest = [i for i in range(len(sizes)) if i not in dense]
        eps = budget / sum(sum(sizes[i]) for i in rest)
        densities = [eps * sum(each) / math.prod(each) for each in sizes]
        over = {i for i in rest if densities[i] > 1}
        if not over:
            return [1.0 if i in dense else densities[i] for i in range(len(sizes))]
        dense |= over


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8, 0.95])
def test_erk_is_that_of_rigl(sparsity: float) -> None:
    shapes = [(256, 64), (256, 256), (10, 256), (512, 1024), (20, 20)]
    allotted = distribute("erk", [Sizes(m, n, unit=1) for m, n in shapes], sparsity)
    expected = rigl_densities(shapes, sparsity)
    assert [1 - one.asked for one in allotted] == pytest.approx(expected)
    assert sparsity > 0.5 or max(expected) == 1  # some are capped


def test_compute_gives_weights_in_proportion_to_multiplications() -> None:
    busy, idle = distribute("compute", [Sizes(100, 100, 1, positions=30), Sizes(100, 100, 1)], 0.9)
    assert busy.kept + idle.kept == 2000
    assert busy.kept == pytest.approx(30 * idle.kept, abs=30)


def test_parts_share_one_number_of_units() -> None:
    whole, split = diagonal(64, 64), diagonal(64, 64, parts=3)
    one, three = distribute("compute", [whole, split], 0.9)
    assert one.kept * 64 + three.kept * 3 * 64 == pytest.approx(0.1 * 4 * 64 * 64, abs=3 * 64)
    assert abs(one.kept - three.kept) <= 1


def test_a_budget_below_one_unit_each_names_the_highest_sparsity() -> None:
    for count in (1, 3, 30):
        sizes = [diagonal(10, 10) for _ in range(count)]
        with pytest.raises(ValueError, match=r"sparsity 0.96 .* ask for at most 0\.95, or exclude"):
            distribute("compute", sizes, 0.96)
        assert {one.kept for one in distribute("compute", sizes, 0.95)} == {1}


def test_an_unknown_distribution_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'even'; known: uniform, erk, compute"):
        distribute("even", [diagonal(4, 4)], 0.5)
    assert distributions() == ("uniform", "erk", "compute")


@pytest.mark.parametrize("name", distributions())
def test_nothing_to_share(name: str) -> None:
    assert distribute(name, [], 0.9) == []
