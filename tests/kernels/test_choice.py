from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import dynadiag as dd
from dynadiag import kernels
from dynadiag.kernels import choice
from dynadiag.kernels.choice import Table
from dynadiag.kernels.cpu import build
from dynadiag.kernels.cuda import choice as cuda
from dynadiag.kernels.problem import Problem

BFLOAT16 = Problem("forward", torch.bfloat16, 64, 32, 16, 8, 2)


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DYNADIAG_BACKEND", raising=False)

    def forget() -> None:
        choice.choose.cache_clear()
        choice._table.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def _compiled() -> None:
    with warnings.catch_warnings(action="ignore"):
        reason = kernels.get("cpu").unavailable()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def measured(_compiled: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Problem]:
    """The problems that were timed; `dense` always wins. The table is in a folder of its own."""
    problems: list[Problem] = []

    def measure(problem: Problem) -> str:
        problems.append(problem)
        return "dense"

    monkeypatch.setattr(choice, "measure", measure)
    monkeypatch.setattr(build, "build", lambda: tmp_path / "cpu-test.so")
    return problems


def chosen(
    *, direction: str = "forward", dtype: torch.dtype = torch.float32, k: int = 16, batch: int = 8
) -> str:
    return choice.choose("auto", direction, "cpu", dtype, 64, 32, k, batch, 2).name


def test_a_problem_in_doubt_is_measured_once(measured: list[Problem]) -> None:
    assert [chosen(), chosen(), chosen(batch=9), chosen()] == ["dense"] * 4
    assert [problem.batch for problem in measured] == [8, 9]


def test_what_was_measured_outlives_the_process(measured: list[Problem], tmp_path: Path) -> None:
    assert chosen() == chosen(direction="grad_x") == "dense"
    assert len(measured) == 2
    choice.choose.cache_clear()
    choice._table.cache_clear()
    assert chosen() == chosen(direction="grad_x") == "dense"
    assert len(measured) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["cpu-test.json"]


@pytest.mark.parametrize(
    "other",
    [
        {"direction": "grad_values"},
        {"dtype": torch.bfloat16},
        {"k": 17},
        {"batch": 9},
    ],
    ids=str,
)
def test_other_problems_have_answers_of_their_own(
    other: dict[str, object], measured: list[Problem]
) -> None:
    chosen()
    chosen(**other)  # type: ignore[arg-type]
    assert len(measured) == 2


def test_few_float32_diagonals_need_no_measurement(measured: list[Problem]) -> None:
    assert chosen(k=6) == "cpu"
    assert measured == []
    assert chosen(k=6, dtype=torch.bfloat16) == "dense"
    assert len(measured) == 1


def test_an_empty_batch_needs_no_measurement(measured: list[Problem]) -> None:
    assert chosen(k=64, batch=0) == "cpu"
    assert measured == []


def test_batches_beyond_the_timed_one_share_an_answer(measured: list[Problem]) -> None:
    chosen(batch=choice.TIMED_BATCH)
    chosen(batch=10 * choice.TIMED_BATCH)
    assert len(measured) == 1


def test_float64_is_for_the_reference(measured: list[Problem]) -> None:
    assert chosen(dtype=torch.float64) == "reference"
    assert measured == []


@pytest.mark.parametrize("device", ["cuda", "xpu"])
def test_devices_without_kernels_take_the_dense_path(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels.get("cuda"), "unavailable", lambda: "no CUDA device")
    assert choice.choose("auto", "forward", device, torch.float32, 64, 32, 4, 8, 2).name == "dense"


@pytest.mark.parametrize("name", ["cuda", "dense"])
def test_a_gpu_has_a_choice_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[Problem] = []

    def best(problem: Problem) -> str:
        problems.append(problem)
        return name

    monkeypatch.setattr(cuda, "best", best)
    monkeypatch.setattr(kernels.get("cuda"), "unavailable", lambda: None)
    sizes = (torch.float16, 64, 32, 4, 8, 2)
    assert choice.choose("auto", "grad_values", "cuda", *sizes).name == name
    assert problems == [Problem("grad_values", *sizes)]


def test_float64_on_a_gpu_takes_the_dense_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.get("cuda"), "unavailable", lambda: None)
    assert choice.choose("auto", "forward", "cuda", torch.float64, 64, 32, 4, 8, 2).name == "dense"


def test_a_name_is_obeyed(measured: list[Problem]) -> None:
    for name in ("cpu", "dense", "reference"):
        sizes = ("forward", "cpu", torch.float32, 64, 32, 64, 8, 2)
        assert choice.choose(name, *sizes).name == name
    assert measured == []


def test_the_environment_is_obeyed_and_the_argument_more(
    measured: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def spy(name: str) -> Callable[..., Tensor]:
        def forward(x: Tensor, *_: object) -> Tensor:
            called.append(name)
            return x

        return forward

    for name in ("cpu", "dense", "reference"):
        monkeypatch.setattr(kernels.get(name), "forward", spy(name))
    layer = dd.nn.DiagonalLinear(8, 8, num_diagonals=8)
    x = torch.randn(2, 8)
    with torch.no_grad():
        layer(x)
        monkeypatch.setenv("DYNADIAG_BACKEND", "reference")
        choice.choose.cache_clear()  # the environment is read when a product is first met
        layer(x)
        layer.backend = "cpu"
        layer(x)
        monkeypatch.delenv("DYNADIAG_BACKEND")
        choice.choose.cache_clear()
        layer.backend = "auto"
        layer(x)
    assert called == ["dense", "reference", "cpu", "dense"]


def test_an_unknown_name_in_the_environment_lists_the_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DYNADIAG_BACKEND", "fastest")
    layer = dd.nn.DiagonalLinear(8, 8, num_diagonals=1)
    with pytest.raises(ValueError, match="'fastest'; known are auto, cpu, cuda, dense, reference"):
        layer(torch.randn(2, 8))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"dense"', b"\xff\xfe", b"null", b'{"a": 1}', b'{"a": ["cpu"]}'],
    ids=repr,
)
def test_a_corrupted_table_is_ignored_and_replaced(
    content: bytes, measured: list[Problem], tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(content)
    assert Table(path).answer(BFLOAT16) == "dense"
    assert len(measured) == 1
    assert Table(path).answer(BFLOAT16) == "dense"
    assert len(measured) == 1
    assert set(json.loads(path.read_text()).values()) == {"dense"}


def test_foreign_names_in_a_table_are_measured_again(
    measured: list[Problem], tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    Table(path).answer(BFLOAT16)
    path.write_text(path.read_text().replace("dense", "reference"))
    assert Table(path).answer(BFLOAT16) == "dense"
    assert len(measured) == 2


def test_a_table_is_replaced_whole(
    measured: list[Problem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.json"
    table = Table(path)
    table.answer(BFLOAT16)
    before = path.read_text()

    def fails(*_: object) -> None:
        raise OSError("interrupted")

    monkeypatch.setattr(Path, "replace", fails)
    monkeypatch.setattr(os, "replace", fails)
    other = Problem("grad_x", torch.bfloat16, 64, 32, 16, 8, 2)
    assert table.answer(other) == "dense"
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_cache_the_answers_last_as_long_as_the_process(
    measured: list[Problem],
) -> None:
    table = Table(None)
    assert table.answer(BFLOAT16) == table.answer(BFLOAT16) == "dense"
    assert len(measured) == 1


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("direction", ["forward", "grad_x", "grad_values"])
@pytest.mark.parametrize("slow", ["cpu", "dense"])
def test_the_faster_backend_is_taken(
    slow: str, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(kernels.get(slow), direction)

    def slowly(*args: object) -> object:
        time.sleep(0.05)
        return real(*args)

    monkeypatch.setattr(kernels.get(slow), direction, slowly)
    problem = Problem(direction, torch.bfloat16, 64, 32, 16, 8, torch.get_num_threads())
    assert choice.measure(problem) == {"cpu": "dense", "dense": "cpu"}[slow]


@pytest.mark.usefixtures("_compiled")
def test_measuring_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    choice.measure(BFLOAT16)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("_compiled")
def test_measuring_is_on_the_cpu_whatever_the_default_device() -> None:
    with torch.device("meta"):
        assert choice.measure(BFLOAT16) in ("cpu", "dense")
