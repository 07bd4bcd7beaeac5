from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dynadiag.bench.schema import plain
from dynadiag.compare import exports
from dynadiag.compare.alone import judge_alone
from dynadiag.compare.config import Config
from dynadiag.compare.judge import compare
from dynadiag.compare.outcome import Comparison
from dynadiag.compare.pairs import judge_pairs

from .fake_runs import Fake, make_run

SCHEMA = Path(__file__).parents[2] / "results" / "schema" / "compare-1.schema.json"
SLOW = Fake(seed=1, slow={("diagonal", 0): 1.5}, status={("diagonal", 3): "wrong"})


@pytest.fixture
def found() -> Comparison:
    return compare(make_run(SLOW), make_run(Fake()), Config())


def findings() -> list[Comparison]:
    runs = make_run(Fake()), make_run(SLOW)
    against = compare(runs[1], runs[0], Config())
    empty = compare(make_run(Fake(cases=0)), runs[0], Config())
    return [against, empty, judge_alone(runs[1], Config()), judge_pairs([runs], Config())]


@pytest.mark.parametrize("number", range(4))
def test_the_export_is_what_its_schema_says(number: int) -> None:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(plain(exports.plain(findings()[number])), schema)


def test_the_export_says_how_it_ended(found: Comparison) -> None:
    exported = exports.plain(found)
    assert (exported["status"], exported["exit_code"]) == ("REGRESSION", 1)
    assert exported["gates"][0]["kind"] == "correctness"
    worst = min(exported["changes"], key=lambda change: float(change["change"]["value"]))
    assert worst["case"] == "forward-768x768-b197-float32-s0.5"
    assert worst["kind"] == "regression"


def test_bencher_has_a_measure_for_every_baseline(found: Comparison) -> None:
    metrics = exports.bencher(found)["forward-768x3072-b197-float32-s0.5 diagonal"]
    assert metrics.keys() == {"speedup_over_csr_torch", "speedup_over_dense"}
    bounds = metrics["speedup_over_dense"]
    assert bounds["lower_value"] < bounds["value"] < bounds["upper_value"]
    assert bounds["value"] == pytest.approx(4, rel=0.02)


def test_smaller_is_better_has_times(found: Comparison) -> None:
    entries = {(each["name"], each["unit"]): each for each in exports.smaller_is_better(found)}
    slower = entries["forward-768x768-b197-float32-s0.5 diagonal", "time of dense"]
    same = entries["forward-768x3072-b197-float32-s0.5 diagonal", "time of dense"]
    assert slower["value"] == pytest.approx(1.5 * same["value"], rel=0.02)
    assert same["range"].startswith("± 0.000")
    assert slower["extra"] == "regression"
