"""Does it pay to choose diagonals, and by which rule?

`python results/studies/choice/study.py RUNS` trains the digits MLP with every rule below, where
RigL gains most over random masks (99 %), and with its first layer alone made sparse, whose inputs
have an order, the pixels. RUNS is a folder for the trainings, which are not repeated. Each line of
records.jsonl is one rule at one place; differences are to random static diagonals, seed by seed, in
points of accuracy and in nats, with 95 % t-intervals. The records are replaced.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dynadiag.bench.environment import git
from dynadiag.bench.processor import name
from dynadiag.bench.seeds import Estimate, difference, mean
from dynadiag.train import Place, Run, create, run_all
from dynadiag.train.folder import Result

HERE = Path(__file__).parent
BASELINE = "static"
FOLDS, FIRST_SEED = 4, 3000  # none of the accuracy suite's seeds
GRADUAL = {"sparsity_schedule": "cosine", "initial_sparsity": 0.97, "drop": 0.0, "until": 0.2}
# As the published code cools its softmax.
COOLING = {
    "learn_alpha": True,
    "temperature": {"schedule": "Cosine", "start": 5.0, "end": 0.05},
}
# Names in words: the method and its options.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "static": ("static", {}),
    "random masks": ("static_unstructured", {}),
    "RigL": ("rigl", {}),
    "dynadiag": ("dynadiag", {}),
    "no exchange": ("dynadiag", {"drop": 0.0}),
    "grown by chance": ("dynadiag", {"grow": "random"}),
    "exchange of a half": ("dynadiag", {"drop": 0.5}),
    "from random diagonals": ("dynadiag", {"start": "random"}),
    "trained before judged": ("dynadiag", {"bound": "soft"}),
    "trained before judged, as many again": ("dynadiag", {"bound": "soft", "drop": 0.9}),
    "from more diagonals": ("dynadiag", GRADUAL),
    "alpha, straight through": ("dynadiag", {"learn_alpha": True}),
    "alpha, K-hot": ("dynadiag", {**COOLING, "selection": "khot", "drop": 0.0}),
    "alpha, the paper's": ("dynadiag_paper", {}),
}
PLACES = {
    "whole model, 99 %": (0.99, ("head",)),
    "first layer, 95 %": (0.95, ("head", "layers.1")),
    "first layer, 99 %": (0.99, ("head", "layers.1")),
}


def main() -> None:
    """Train everything and write the records."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("runs", type=Path)
    words.add_argument("--seeds", type=int, default=32)
    words.add_argument("--steps", type=int, default=600)
    words.add_argument("--lr", type=float, default=3e-2, help="the search's for static diagonals")
    asked = words.parse_args()
    recipe = {"steps": asked.steps, "evaluate": asked.steps, "lr": asked.lr}
    about = {
        "device": name(),
        "torch": torch.__version__,
        "sha": git(HERE.parents[2])["sha"],
        **recipe,
    }
    records = [about | each for each in study(Place(asked.runs), asked.seeds, recipe)]
    lines = [json.dumps(record) for record in records]
    (HERE / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def study(place: Place, seeds: int, recipe: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield and print one record a rule and place."""
    chosen = {
        (where, rule): [trained(where, rule, FIRST_SEED + seed, recipe) for seed in range(seeds)]
        for where in PLACES
        for rule in RULES
    }
    every = [run for runs in chosen.values() for run in runs]
    ended = dict(zip(every, run_all(every, place), strict=True))
    for (where, rule), runs in chosen.items():
        own = [ended[run] for run in runs]
        base = [ended[run] for run in chosen[where, BASELINE]]
        record = {"place": where, "rule": rule, "seeds": seeds, **compared(own, base)}
        print(json.dumps(record))
        yield record


def trained(where: str, rule: str, seed: int, recipe: dict[str, Any]) -> Run:
    """One training."""
    (method, options), (sparsity, exclude) = RULES[rule], PLACES[where]
    about = {"sparsity": sparsity, "exclude": exclude, "seed": seed, "fold": seed % FOLDS}
    return create("digits-mlp", method, options=options, **about, **recipe)


def compared(own: Sequence[Result], base: Sequence[Result]) -> dict[str, Any]:
    """Means, and differences seed by seed."""
    accuracies = [[100 * each.test["accuracy"] for each in group] for group in (own, base)]
    losses = [[each.validation["loss"] for each in group] for group in (own, base)]
    return {
        "sparsity": own[0].sparsity,
        "test_accuracy": rounded(mean(accuracies[0])),
        "test_points": rounded(difference(*accuracies)),
        "validation_nats": rounded(difference(*losses)),
    }


def rounded(found: Estimate) -> list[float | None]:
    """A value and the ends of its interval."""
    ends = (found.value, found.lo, found.hi)
    return [None if end is None else round(end, 4) for end in ends]


if __name__ == "__main__":
    main()
