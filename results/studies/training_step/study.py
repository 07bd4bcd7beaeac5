"""What does a training step cost while the diagonals are chosen?

`python results/studies/training_step/study.py` times, in turns within one process, float32 on the
CPU: a whole step (forward, backward, AdamW, Scheduler) of an MLP block of width 768, dense and
converted at 90 %; and forward and backward of one layer, trained and static. Each line of
records.jsonl is one ratio with its 99 % interval. The records are replaced.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

import dynadiag as dd
from dynadiag.bench.allocator import keep_freed_memory
from dynadiag.bench.environment import git
from dynadiag.bench.processor import name
from dynadiag.bench.statistics import paired_ratio

HERE = Path(__file__).parent
SPARSITY, WIDTH, HIDDEN = 0.9, 768, 3072
STEPS = 10_000  # of the schedule; updates fall on every hundredth, as in a real training
Call = Callable[[], object]


def main() -> None:
    """Measure everything and write the records."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--rounds", type=int, default=60)
    words.add_argument("--batches", type=int, nargs="+", default=[197, 1576])
    asked = words.parse_args()
    about = {
        "device": name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sha": git(HERE.parents[2])["sha"],
        "freed_memory": keep_freed_memory(),
    }
    lines = [json.dumps(about | found) for found in measure(asked.batches, asked.rounds)]
    (HERE / "records.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(batches: list[int], rounds: int) -> Iterator[dict[str, Any]]:
    """Yield and print one record a comparison."""
    for batch in batches:
        for fused in (False, True):
            arms = {"dense": dense_block(batch, fused), "dynadiag": sparse_block(batch)}
            yield compared("block", arms, rounds, batch=batch, dense_fused_adamw=fused)
        for out_features in (WIDTH, HIDDEN):
            layers = {
                "dynamic": dd.nn.DynamicDiagonalLinear(WIDTH, out_features, sparsity=SPARSITY),
                "static": dd.nn.DiagonalLinear(WIDTH, out_features, sparsity=SPARSITY),
            }
            arms = {kind: passes(layer, batch) for kind, layer in layers.items()}
            yield compared("layer", arms, rounds, batch=batch, out_features=out_features)


def block() -> nn.Sequential:
    """An MLP block."""
    torch.manual_seed(0)
    layers = (nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))
    return nn.Sequential(nn.LayerNorm(WIDTH), *layers)


def dense_block(batch: int, fused: bool) -> Call:
    """A training step of a dense block, with torch's plain AdamW or its fused one."""
    model = block()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05, fused=fused)
    return steps(model, optimizer, batch, lambda: None)


def sparse_block(batch: int) -> Call:
    """A training step of a converted block, with the groups of `param_groups`."""
    model = block()
    dd.convert_(model, sparsity=SPARSITY, method="dynadiag")
    optimizer = torch.optim.AdamW(dd.param_groups(model, weight_decay=0.05))
    scheduler = dd.Scheduler(model, optimizer, total_steps=STEPS)
    return steps(model, optimizer, batch, scheduler.step)


def steps(model: nn.Module, optimizer: Optimizer, batch: int, after: Call) -> Call:
    """A training step of any model."""
    x = torch.randn(batch, WIDTH)

    def step() -> None:
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        after()

    return step


def passes(layer: nn.Module, batch: int) -> Call:
    """Forward, and backward to the input and all parameters."""
    x = torch.randn(batch, WIDTH, requires_grad=True)

    def step() -> None:
        layer(x).sum().backward()
        layer.zero_grad()
        x.grad = None

    return step


def compared(what: str, arms: dict[str, Call], rounds: int, **case: Any) -> dict[str, Any]:
    """Time two arms in turns, the first of a round at random; the ratio is first over second."""
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(rounds):
        for arm in random.sample(list(arms), len(arms)):
            arms[arm]()  # so that neither finds what the other left in the caches
            start = time.perf_counter()
            arms[arm]()
            seconds[arm].append(time.perf_counter() - start)
    first, second = arms
    ratio = paired_ratio(seconds[second], seconds[first])
    found = {"what": what, "over": f"{first} / {second}", **case}
    found |= {"ratio": ratio.value, "lo": ratio.lo, "hi": ratio.hi, "rounds": rounds}
    found |= {f"{arm}_ms": 1e3 * sorted(times)[rounds // 2] for arm, times in seconds.items()}
    print({key: round(each, 3) if isinstance(each, float) else each for key, each in found.items()})
    return found


if __name__ == "__main__":
    main()
