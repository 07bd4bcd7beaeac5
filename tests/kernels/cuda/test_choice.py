from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynadiag import kernels
from dynadiag.kernels.cuda import choice, compiler
from dynadiag.kernels.cuda.choice import Timed
from dynadiag.kernels.problem import Problem
from tests.kernels.cuda.cards import H200

LARGE = Problem("forward", torch.float32, 768, 768, 77, 12608, 1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of tables, on a machine with an H200."""
    monkeypatch.setenv("DYNADIAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_slug", lambda: H200.slug)
    choice._table.cache_clear()
    yield tmp_path / "cache"
    choice._table.cache_clear()


@pytest.fixture
def tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "tf32_allowed", lambda: True)


def at(sparsity: float, problem: Problem = LARGE) -> Problem:
    return replace(problem, num_diagonals=round((1 - sparsity) * 768))


@pytest.mark.parametrize("direction", ["forward", "grad_x"])
@pytest.mark.parametrize(
    ("dtype", "dense_until", "diagonals_from"),
    [(torch.float32, 0.72, 0.75), (torch.bfloat16, 0.96, 0.97), (torch.float16, 0.96, 0.97)],
    ids=str,
)
def test_large_batches_break_even_where_the_rates_meet(
    direction: str, dtype: torch.dtype, dense_until: float, diagonals_from: float
) -> None:
    problem = replace(LARGE, direction=direction, dtype=dtype)
    assert choice.best(at(dense_until, problem)) == "dense"
    assert choice.best(at(diagonals_from, problem)) == "cuda"


@pytest.mark.usefixtures("tf32")
def test_tf32_moves_the_break_even_of_float32_alone() -> None:
    assert choice.best(at(0.95)) == "dense"
    assert choice.best(at(0.97)) == "cuda"
    assert choice.best(at(0.96, replace(LARGE, dtype=torch.bfloat16))) == "dense"


def test_tf32_is_what_torch_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        assert choice.tf32_allowed()
        matmul.fp32_precision = "ieee"
        assert not choice.tf32_allowed()
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("batch", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
def test_few_rows_always_take_the_diagonals(
    batch: int, dtype: torch.dtype, sparsity: float
) -> None:
    assert choice.best(at(sparsity, replace(LARGE, dtype=dtype, batch=batch))) == "cuda"


def test_the_gradient_of_the_values_reckons_with_the_gather() -> None:
    problem = replace(LARGE, dtype=torch.bfloat16, batch=1024)
    gradient = replace(problem, direction="grad_values")
    assert choice.dense_seconds(gradient) > choice.dense_seconds(problem)
    assert choice.diagonal_seconds(gradient) == choice.diagonal_seconds(problem)
    assert choice.best(replace(gradient, batch=12608)) == "dense"


def test_what_was_measured_goes_before_the_rule() -> None:
    assert choice.best(LARGE) == "cuda"
    choice.write_table(H200.slug, compiler.source_hash(), {choice.key(LARGE): "dense"})
    assert choice.best(LARGE) == "dense"
    assert choice.best(replace(LARGE, direction="grad_x")) == "cuda"


def test_batches_up_to_the_same_power_of_two_share_an_answer() -> None:
    keys = [choice.key(replace(LARGE, batch=batch)) for batch in (1, 2, 3, 4, 5, 8192, 8193)]
    assert [key.split()[-1] for key in keys] == ["1", "2", "4", "4", "8", "8192", "16384"]


@pytest.mark.usefixtures("tf32")
def test_tf32_has_answers_of_its_own() -> None:
    assert choice.key(LARGE).split()[1] == "tf32"
    assert choice.key(replace(LARGE, dtype=torch.float16)).split()[1] == "float16"


def test_answers_hold_for_one_card_and_one_state_of_the_sources() -> None:
    choice.write_table("nvidia-h200", "aaa", {"one": "dense"})
    assert choice.read_table("nvidia-h200", "aaa") == {"one": "dense"}
    assert choice.read_table("nvidia-h200", "bbb") == {}
    assert choice.read_table("nvidia-a100", "aaa") == {}


def test_answers_are_added_until_the_sources_change(cache: Path) -> None:
    choice.write_table("nvidia-h200", "aaa", {"one": "dense", "two": "dense"})
    path = choice.write_table("nvidia-h200", "aaa", {"two": "cuda"})
    assert choice.read_table("nvidia-h200", "aaa") == {"one": "dense", "two": "cuda"}
    choice.write_table("nvidia-h200", "bbb", {"three": "cuda"})
    assert choice.read_table("nvidia-h200", "bbb") == {"three": "cuda"}
    assert list(cache.iterdir()) == [path]


def test_a_shipped_table_is_overruled_by_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "SHIPPED", tmp_path)
    shipped = {"sources": "aaa", "answers": {"one": "dense", "two": "dense"}}
    (tmp_path / "nvidia-h200.json").write_text(json.dumps(shipped))
    assert choice.read_table("nvidia-h200", "aaa") == {"one": "dense", "two": "dense"}
    choice.write_table("nvidia-h200", "aaa", {"two": "cuda"})
    assert choice.read_table("nvidia-h200", "aaa") == {"one": "dense", "two": "cuda"}


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"sources": "aaa"}', '{"sources": "aaa", "answers": []}'],
    ids=repr,
)
def test_a_corrupted_table_is_ignored(content: str) -> None:
    path = choice.write_table("nvidia-h200", "aaa", {"one": "dense"})
    path.write_text(content)
    assert choice.read_table("nvidia-h200", "aaa") == {}
    choice.write_table("nvidia-h200", "aaa", {"one": "cuda"})
    assert choice.read_table("nvidia-h200", "aaa") == {"one": "cuda"}


def test_foreign_names_are_left_out() -> None:
    path = choice.write_table("nvidia-h200", "aaa", {"one": "dense", "two": "cuda"})
    path.write_text(path.read_text().replace("dense", "reference"))
    assert choice.read_table("nvidia-h200", "aaa") == {"two": "cuda"}


def test_refreshing_times_both_ways_and_keeps_the_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = replace(LARGE, batch=6)
    built: list[tuple[str, Problem, str]] = []
    seconds = {"cuda": 2e-6, "dense": 1e-6}

    def call(backend: kernels.Backend, problem: Problem, device: str) -> Callable[[], Tensor]:
        built.append((backend.name, problem, device))
        return lambda: torch.tensor(seconds[backend.name], dtype=torch.float64)

    monkeypatch.setattr(choice, "call", call)
    assert choice.best(problem) == "cuda"
    assert choice.refresh([problem], lambda call: call().item()) == [Timed(problem, seconds)]
    assert built == [(name, problem, "cuda") for name in ("cuda", "dense")]
    assert choice.best(problem) == "dense"


def test_without_a_cache_the_rule_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DYNADIAG_CACHE", str(tmp_path / "file" / "cache"))
    assert choice.best(LARGE) == "cuda"
