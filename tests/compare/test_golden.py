"""What people read, to the letter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dynadiag.compare import markdown, terminal
from dynadiag.compare.alone import judge_alone
from dynadiag.compare.config import Config
from dynadiag.compare.confirm import confirmed
from dynadiag.compare.judge import compare
from dynadiag.compare.outcome import Comparison
from dynadiag.compare.pairs import judge_pairs

from .fake_runs import Fake, make_run
from .golden_files import GOLDEN, held

CONFIG = Config()
BASE = Fake(cases=4, seed=1)
COMMIT = {"git": {"sha": "fedcba9876543210fedcba9876543210fedcba98", "dirty": True}}
OTHER_CARD = {"device": {"type": "cuda", "name": "NVIDIA B", "slug": "nvidia-b"}}


def against(now: Fake, reference: Fake = BASE) -> Comparison:
    return compare(make_run(now), make_run(reference), CONFIG)


def changed(**fields: object) -> Comparison:
    return against(replace(BASE, seed=2, **({"header": COMMIT} | fields)))  # type: ignore[arg-type]


def unconfirmed() -> Comparison:
    return confirmed(changed(slow={("diagonal", 1): 1.25}), changed(), CONFIG)


def driver(version: str) -> dict[str, object]:
    nvml = {"driver": version, "temperature_c": int(version[:2])}
    return {"device": {"type": "cuda", "name": "NVIDIA A", "slug": "nvidia-a", "nvml": nvml}}


def another_driver() -> Comparison:
    then, now = (
        replace(BASE, seed=seed, header=driver(version))
        for seed, version in ((1, "580.65.06"), (2, "590.44.01"))
    )
    return against(now, then)


def pairs() -> Comparison:
    slow = {("diagonal", 2): 1.2}
    runs = [
        (
            make_run(replace(BASE, seed=seed, process=0.005)),
            make_run(replace(BASE, seed=seed + 50, process=0.005, slow=slow, header=COMMIT)),
        )
        for seed in range(6)
    ]
    return judge_pairs(runs, CONFIG)


FOUND: dict[str, Callable[[], Comparison]] = {
    "nothing_changed": changed,
    "improvement": lambda: changed(slow={("diagonal", 0): 0.7}),
    "regression": lambda: changed(slow={("diagonal", 1): 1.25, ("diagonal", 2): 1.03}),
    "unconfirmed": unconfirmed,
    "ambiguous": lambda: changed(half=0.01, slow={("diagonal", 1): 1.05}),
    "one_baseline_only": lambda: changed(slow={("csr_torch", 3): 0.8}),
    "missing_arm": lambda: changed(status={"diagonal": "skipped"}),
    "wrong_and_larger": lambda: changed(
        status={("diagonal", 0): "wrong"}, bytes={"diagonal": 12288}
    ),
    "moved_control": lambda: changed(slow={"dense_again": 1.04}),
    "different_device": lambda: changed(header=OTHER_CARD),
    "different_driver": another_driver,
    "empty_run": lambda: changed(cases=0),
    "alone": lambda: judge_alone(make_run(BASE), CONFIG),
    "pairs": pairs,
}


@pytest.mark.parametrize("name", FOUND)
def test_terminal(name: str) -> None:
    held(GOLDEN / f"{name}.txt", terminal.text(FOUND[name]()))


@pytest.mark.parametrize("name", FOUND)
def test_markdown(name: str) -> None:
    held(GOLDEN / f"{name}.md", markdown.text(FOUND[name]()))


def test_every_golden_file_is_of_a_test() -> None:
    # schema_mismatch.txt is what the command says: tests/compare/test_command.py.
    names = {f"{name}.{kind}" for name in FOUND for kind in ("txt", "md")}
    assert {path.name for path in GOLDEN.iterdir()} == names | {"schema_mismatch.txt"}
