from __future__ import annotations

import re

import pytest
import torch

from dynadiag.kernels import cuda
from dynadiag.kernels.cuda.resource_table import COMPILED
from dynadiag.kernels.cuda.variants import ALL, SHARED_RATE, Variant, row_counts
from tests.kernels.cuda.conftest import SOURCES


@pytest.mark.parametrize(
    ("variant", "expression"),
    [
        (
            Variant("multiply", torch.bfloat16, 8, 7, True),
            "dynadiag::multiply<dynadiag::bfloat16, 8, 7, true>",
        ),
        (
            Variant("multiply", torch.float32, 1, 1),
            "dynadiag::multiply<dynadiag::float32, 1, 1, false>",
        ),
        (
            Variant("grad_values", torch.float16, 8, 5),
            "dynadiag::grad_values<dynadiag::float16, 5>",
        ),
        (Variant("reduce", torch.float16), "dynadiag::reduce<dynadiag::float16>"),
        (
            Variant("naive_multiply", torch.float32, scatter=True),
            "dynadiag::naive_multiply<dynadiag::float32, true>",
        ),
        (SHARED_RATE, "dynadiag::shared_rate"),
    ],
    ids=str,
)
def test_expressions_are_those_of_the_templates(variant: Variant, expression: str) -> None:
    assert variant.expression == expression


def test_no_instance_is_listed_twice() -> None:
    expressions = [variant.expression for variant in COMPILED]
    assert len(set(expressions)) == len(expressions)


def test_every_source_is_launched() -> None:
    assert {variant.source for variant in COMPILED} == {path.name for path in SOURCES.glob("*.cu")}


def test_every_dtype_of_the_backend_has_every_kernel() -> None:
    kernels = {(variant.kernel, variant.dtype) for variant in ALL}
    assert kernels == {
        (kernel, dtype)
        for kernel in ("multiply", "grad_values", "reduce", "naive_multiply", "naive_grad_values")
        for dtype in cuda.Cuda.dtypes
    }


@pytest.mark.parametrize(
    ("dtype", "counts"), [(torch.float32, (1, 2, 4)), (torch.float16, (1, 2, 4, 8))], ids=str
)
def test_a_vector_holds_up_to_16_bytes(dtype: torch.dtype, counts: tuple[int, ...]) -> None:
    assert row_counts(dtype) == counts


def declared(kernel: str, source: str) -> str:
    """The parameters of a kernel in its source, a letter each."""
    text = re.sub(r"\s+", " ", (SOURCES / source).read_text())
    found = re.search(rf"\b{kernel}\(((?:const |T|int|float|\W)[^)]*)\) {{ ", text)
    assert found is not None
    letters = {"int": "i", "long long": "l"}
    types = [parameter.strip().rsplit(" ", 1)[0] for parameter in found[1].split(",")]
    return "".join("p" if "*" in kind else letters[kind] for kind in types)


@pytest.mark.parametrize("kernel", sorted({variant.kernel for variant in COMPILED}))
def test_arguments_are_those_of_the_source(kernel: str) -> None:
    variant = next(one for one in COMPILED if one.kernel == kernel)
    assert variant.arguments == declared(kernel, variant.source)
