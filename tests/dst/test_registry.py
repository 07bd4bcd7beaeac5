from __future__ import annotations

import json
from typing import Any

import pytest

from dynadiag.dst.method import Method
from dynadiag.dst.registry import method, methods
from dynadiag.dst.schedules import Cosine, WarmupCosine

NAMES = [
    "dense",
    "diag_heuristic",
    "dsb",
    "dynadiag",
    "dynadiag_paper",
    "mest",
    "pixelated_butterfly",
    "rigl",
    "set",
    "srigl",
    "static",
    "static_unstructured",
]


def test_methods_are_listed_by_name() -> None:
    assert list(methods()) == NAMES
    for name, kind in methods().items():
        assert issubclass(kind, Method)
        assert kind.name == name
        assert kind.__doc__


def test_options_take_the_place_of_defaults() -> None:
    assert method("rigl") == methods()["rigl"]()
    assert method("rigl", every=7) == methods()["rigl"](every=7)  # type: ignore[call-arg]
    assert method("rigl", every=7) != method("rigl")


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no method 'rigel'; choose from dense, .*, rigl, set"):
        method("rigel")


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    message = "the method srigl has no option 'gama'; it takes every, until, drop, gamma"
    with pytest.raises(ValueError, match=message):
        method("srigl", gama=0.5)
    with pytest.raises(ValueError, match="dense has no option 'every'; it takes none"):
        method("dense", every=5)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("rigl", {"every": 0}, "every is 0, but must be a whole number of optimizer steps"),
    ("rigl", {"until": 0.0}, r"until is 0.0, but must be a share in \(0, 1\]"),
    ("set", {"drop": 1.0}, r"drop is 1.0, but must be a share in \[0, 1\)"),
    ("rigl", {"sparsity_schedule": "cubic"}, "must be one of constant, linear, cosine"),
    ("rigl", {"initial_sparsity": 1.0}, "initial_sparsity is 1.0"),
    ("mest", {"bound": "elastic"}, "bound is 'elastic', but must be one of hard, soft"),
    ("mest", {"gradient_weight": -1.0}, "gradient_weight is -1.0, but must be at least 0"),
    ("mest", {"remove_examples": 1.0}, "remove_examples is 1.0"),
    ("mest", {"remove_at": 0.0}, "remove_at is 0.0"),
    ("srigl", {"gamma": 1.5}, "gamma is 1.5"),
    ("dsb", {"block": 0}, "block is 0, but must be at least 1"),
    ("pixelated_butterfly", {"block": 0}, "block is 0, but must be at least 1"),
    ("pixelated_butterfly", {"low_rank": 1.0}, "low_rank is 1.0"),
    ("static", {"start": "band"}, "start is 'band', but must be one of random, strati"),
    ("dynadiag", {"selection": "topk"}, "must be one of hard_topk, khot, soft_topk"),
    ("dynadiag", {"temperature": 0.0}, "temperature is 0.0, but must be positive"),
    ("dynadiag", {"temperature": Cosine(5.0, 0.0)}, r"Cosine\(.*, but must be positive at every"),
    ("dynadiag", {"l1": -0.1}, "l1 is -0.1, but must be at least 0"),
    ("dynadiag", {"l1": 0.1}, "l1 is 0.1, but must be 0 .* pass learn_alpha=True too"),
    ("rigl", {"every": 2.5}, "every is 2.5, but must be a whole number of optimizer steps"),
    ("dynadiag", {"grow": "weight"}, "must be one of gradient, random"),
    ("dynadiag", {"temperature": {"schedule": "Cos"}}, "schedule is 'Cos', but must be one of Con"),
]


@pytest.mark.parametrize(("name", "options", "message"), BAD)
def test_a_bad_option_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(name, **options)


@pytest.mark.parametrize("name", NAMES)
def test_options_survive_json(name: str) -> None:
    plain = json.loads(json.dumps(method(name).options()))
    assert method(name, **plain) == method(name)


def test_schedules_survive_json() -> None:
    for schedule in (Cosine(3.0, 0.1), WarmupCosine(0.1, 2.0, 0.5, 10)):
        ruling = method("dynadiag", temperature=schedule)
        assert method("dynadiag", **json.loads(json.dumps(ruling.options()))) == ruling
