"""The grid: what it expands to, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.arms import ARMS
from suites.cases import CONTROLS, Case, CaseError, features
from suites.grid import load_mode, merged, select

GRID = Path(__file__).resolve().parents[2] / "suites" / "cases.toml"
TINY = """
[models]
"A" = ["8x16", "16x8"]
"B" = ["8x16"]
[arms]
both = ["diagonal", "csr"]
[modes.tiny]
precision = "quick"
override = { cap = 7 }
[[modes.tiny.grids]]
directions = ["forward", "step"]
shapes = ["8x16"]
batches = [1, 4]
dtypes = ["float32"]
sparsities = [0.5, 0.9]
arms = ["diagonal"]
[[modes.tiny.grids]]
directions = ["forward"]
shapes = ["A"]
batches = [4]
dtypes = ["float32"]
sparsities = [0.5]
arms = ["both"]
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


def test_grids_are_products_and_shared_cases_are_measured_once(grid: Path) -> None:
    cases = load_mode(grid, "tiny", ARMS).cases
    assert len(cases) == 2 * 2 * 2 + 1
    shared = next(case for case in cases if str(case) == "forward-8x16-b4-float32-s0.5")
    assert shared.arms == ("dense", "dense_again", "diagonal", "csr")
    assert len({case.id for case in cases}) == len(cases)


def test_shape_of_two_models_names_both(grid: Path) -> None:
    models = {case.shape: case.model for case in load_mode(grid, "tiny", ARMS).cases}
    assert models == {"8x16": "A, B", "16x8": "A"}


def test_shape_reads_from_input_to_output() -> None:
    case = Case("forward", "768x3072", 1, "float32", 0.9)
    assert features("768x3072") == (768, 3072)
    assert (case.columns["in_features"], case.columns["out_features"]) == (768, 3072)


def test_precision_is_a_preset_with_overrides(grid: Path) -> None:
    precision = load_mode(grid, "tiny", ARMS).precision
    assert precision.cap == 7
    assert precision.target == load_mode(GRID, "quick", ARMS).precision.target


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ('shapes = ["8x16"]', 'shapes = ["8x17"]', "unknown shape '8x17'; known: 8x16, 16x8, A, B"),
        ('["float32"]', '["float8"]', "unknown dtype 'float8'; known: float32, bfloat16"),
        ('"step"]', '"back"]', "unknown direction 'back'; known: forward, grad_x"),
        ('arms = ["both"]', 'arms = ["coo"]', "unknown arm 'coo'; known: dense, dense_again"),
        ('["diagonal", "csr"]', '["dia"]', "unknown arm 'dia'; known: dense, dense_again"),
        ("batches = [4]", "batch = [4]", "a grid lacks batches"),
        ('precision = "quick"', 'precision = "slow"', "unknown precision 'slow'; known: quick"),
    ],
)
def test_unknown_names_are_told_with_the_known(
    tmp_path: Path, good: str, bad: str, message: str
) -> None:
    assert good in TINY
    path = tmp_path / "grid.toml"
    path.write_text(TINY.replace(good, bad), encoding="utf-8")
    with pytest.raises(CaseError, match=message):
        load_mode(path, "tiny", ARMS)


def test_unknown_mode_lists_the_known() -> None:
    with pytest.raises(CaseError, match="unknown mode 'fast'; known: smoke, quick, compare, full"):
        load_mode(GRID, "fast", ARMS)


def test_selection_keeps_controls_and_drops_cases_without_the_arm(grid: Path) -> None:
    cases = load_mode(grid, "tiny", ARMS).cases
    chosen = select(cases, arms=["csr"])
    assert {case.shape for case in chosen} == {"8x16", "16x8"}
    assert all(case.arms == (*CONTROLS, "csr") for case in chosen)
    assert len(chosen) == 2


@pytest.mark.parametrize(("name", "shapes"), [("B", {"8x16"}), ("16x8", {"16x8"})])
def test_selection_by_model_or_shape(grid: Path, name: str, shapes: set[str]) -> None:
    chosen = select(load_mode(grid, "tiny", ARMS).cases, shapes=[name])
    assert {case.shape for case in chosen} == shapes


@pytest.mark.parametrize("unknown", [{"arms": ["coo"]}, {"shapes": ["9x9"]}])
def test_selection_of_an_unknown_name_lists_the_known(
    grid: Path, unknown: dict[str, list[str]]
) -> None:
    with pytest.raises(CaseError, match=r"unknown (arm|shape) .*; known: "):
        select(load_mode(grid, "tiny", ARMS).cases, **unknown)


def test_id_depends_on_the_case_and_not_on_its_arms() -> None:
    case = Case("forward", "8x16", 1, "float32", 0.9)
    more = Case("forward", "8x16", 1, "float32", 0.9, "A", (*CONTROLS, "csr"))
    other = Case("forward", "8x16", 1, "float32", 0.95)
    assert case.id == more.id != other.id
    assert len(merged([case, more, other])) == 2


def test_seed_differs_between_cases_and_runs() -> None:
    one, two = (Case("forward", "8x16", batch, "float32", 0.9) for batch in (1, 2))
    assert len({one.seed(0), one.seed(1), two.seed(0)}) == 3


@pytest.mark.parametrize("mode", ["smoke", "quick", "full", "compare"])
def test_every_mode_compares_diagonals_with_dense(mode: str) -> None:
    cases = load_mode(GRID, mode, ARMS).cases
    assert all({*CONTROLS, "diagonal"} <= set(case.arms) for case in cases)


def test_quick_holds_the_headline_cases() -> None:
    quick = {str(case) for case in load_mode(GRID, "quick", ARMS).cases}
    for shape in ("768x768", "768x3072", "3072x768"):
        for batch in (197, 1576):
            assert {f"forward-{shape}-b{batch}-float32-s{s}" for s in (0.9, 0.95, 0.99)} <= quick
        assert f"forward-{shape}-b1-float32-s0.9" in quick
        assert {f"step-{shape}-b197-float32-s{s}" for s in (0.9, 0.95)} <= quick


def test_compare_sees_every_kernel_in_few_cases() -> None:
    cases = load_mode(GRID, "compare", ARMS).cases
    assert {case.direction for case in cases} == {"forward", "grad_x", "grad_values"}
    assert {1, 16, 394} == {case.batch for case in cases}
    assert all("csr_torch" in case.arms and len(case.arms) == 4 for case in cases)
    assert len(cases) <= 8


def test_full_covers_batches_dtypes_and_all_models() -> None:
    full = load_mode(GRID, "full", ARMS).cases
    assert {case.batch for case in full} == {1, 16, 197, 1576, 12608}
    assert {case.dtype for case in full} == {"float32", "bfloat16"}
    named = ", ".join({case.model for case in full})
    for model in ("ViT-B/16", "MLP-Mixer-S/16", "GPT-2 small", "Llama-2-7B"):
        assert model in named
