"""What the accuracy suite trains, as data: accuracy.toml becomes lists of runs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dynadiag.dst.registry import methods
from dynadiag.train.preset import preset
from dynadiag.train.run import Run, create

FILE = Path(__file__).resolve().parents[1] / "accuracy.toml"
# Seeds of the search: none that is reported.
FIRST_SEARCH_SEED = 1000
DENSE = "dense"


class GridError(ValueError):
    """A mode, method or preset that does not exist; the message names those that do."""


@dataclass(frozen=True)
class Search:
    """The same small search for every method at every sparsity.

    Attributes:
        rates: learning rates tried, by preset.
        seeds: trained for each, by preset.
        again: further seeds for the best two of them, by preset.
    """

    rates: Mapping[str, Sequence[float]]
    seeds: Mapping[str, int]
    again: Mapping[str, int]


@dataclass(frozen=True)
class Trace:
    """A layer whose topology is kept at every update, with the first seed.

    Attributes:
        preset: its task.
        layer: its name.
        sparsity: at which it is watched.
        methods: in which it can move.
    """

    preset: str
    layer: str
    sparsity: float
    methods: tuple[str, ...]

    def fits(self, preset: str, method: str, sparsity: float, seed: int) -> bool:
        """Return whether it is kept in this run."""
        about = (self.preset, self.sparsity, 0)
        return about == (preset, sparsity, seed) and method in self.methods


@dataclass(frozen=True)
class Grid:
    """One mode.

    Attributes:
        mode: its name.
        steps: optimizer steps by preset.
        methods: to train by.
        sparsities: to train at; dense trains at none.
        seeds: trainings of every method and sparsity, by preset.
        more: trainings instead, by preset, of the methods of `decided`.
        decided: methods whose differences are small and asked for.
        folds: parts of the data that seeds test in turn, by preset; else 1. A search has the first.
        search: None where known learning rates are taken.
        known: learning rates by preset and method; else the preset's own is taken.
        options: of methods whose defaults do not fit models as small as these.
        traces: layers to watch.
    """

    mode: str
    steps: Mapping[str, int]
    methods: tuple[str, ...]
    sparsities: tuple[float, ...]
    seeds: Mapping[str, int]
    more: Mapping[str, int] = field(default_factory=dict)
    decided: tuple[str, ...] = ()
    folds: Mapping[str, int] = field(default_factory=dict)
    search: Search | None = None
    known: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    traces: tuple[Trace, ...] = ()

    def at(self, method: str) -> tuple[float, ...]:
        """Return the sparsities a method is trained at."""
        return (0.0,) if method == DENSE else self.sparsities

    def searches(self, preset: str) -> Iterator[Run]:
        """The runs that look for the learning rates of a preset, in the first round."""
        if self.search is not None:
            rates, seeds = self.search.rates[preset], range(self.search.seeds[preset])
            for method in self.methods:
                for sparsity in self.at(method):
                    yield from self._searched(preset, method, sparsity, rates, seeds)

    def second_searches(
        self, preset: str, best: Mapping[tuple[str, float], Sequence[float]]
    ) -> Iterator[Run]:
        """The runs that decide between the best learning rates of the first round.

        Args:
            preset: its name.
            best: those rates, by method and sparsity.
        """
        if self.search is not None:
            first = self.search.seeds[preset]
            seeds = range(first, first + self.search.again[preset])
            for (method, sparsity), rates in best.items():
                yield from self._searched(preset, method, sparsity, rates, seeds)

    def _searched(
        self, preset: str, method: str, sparsity: float, rates: Iterable[float], seeds: range
    ) -> Iterator[Run]:
        for rate in rates:
            for seed in seeds:
                yield self.run(preset, method, sparsity, FIRST_SEARCH_SEED + seed, rate)

    def finals(self, preset: str, rates: Mapping[tuple[str, float], float]) -> Iterator[Run]:
        """The runs of one preset that are reported, all methods of a seed before the next seed.

        Args:
            preset: its name.
            rates: learning rate by method and sparsity.
        """
        for seed in range(max(self._seeds(preset, method) for method in self.methods)):
            for method in self.methods:
                if seed < self._seeds(preset, method):
                    for sparsity in self.at(method):
                        yield self.run(preset, method, sparsity, seed, rates[method, sparsity])

    def _seeds(self, preset: str, method: str) -> int:
        known = self.more if method in self.decided else self.seeds
        return known.get(preset, self.seeds[preset])

    def run(self, name: str, method: str, sparsity: float, seed: int, rate: float) -> Run:
        """Return one run of the grid."""
        # A search stays in the fold whose training split it began with.
        fold = seed % self.folds.get(name, 1) if seed < FIRST_SEARCH_SEED else 0
        watched = [each for each in self.traces if each.fits(name, method, sparsity, seed)]
        return create(
            name,
            method,
            sparsity=sparsity,
            seed=seed,
            fold=fold,
            options=self.options.get(method),
            trace=watched[0].layer if watched else None,
            steps=self.steps[name],
            evaluate=self.steps[name],
            lr=rate,
        )


def load(mode: str, file: Path = FILE) -> Grid:
    """Read one mode.

    Raises:
        GridError: the mode, one of its methods or presets is unknown.
    """
    text = tomllib.loads(file.read_text(encoding="utf-8"))
    modes = text["modes"]
    if mode not in modes:
        raise GridError(f"unknown mode {mode!r}; known: {', '.join(modes)}")
    table = modes[mode]
    named = {*table["methods"], *table.get("decided", ())}
    unknown = sorted(named - {DENSE, *methods()})
    if unknown:
        raise GridError(f"unknown method {unknown[0]!r}; known: {', '.join(methods())}")
    for name in table["steps"]:
        preset(name)
    search = table.get("search")
    return Grid(
        mode,
        table["steps"],
        tuple(table["methods"]),
        tuple(table["sparsities"]),
        table["seeds"],
        table.get("more", {}),
        tuple(table.get("decided", ())),
        text.get("folds", {}),
        search and Search(search["rates"], search["seeds"], search["again"]),
        text.get("rates", {}),
        text.get("options", {}),
        tuple(
            Trace(**(each | {"methods": tuple(each["methods"])}))
            for each in table.get("traces", ())
        ),
    )


def only(grid: Grid, presets: Sequence[str], methods: Sequence[str]) -> Grid:
    """Return the part of a grid that was asked for; empty lists leave it whole.

    Raises:
        GridError: something asked for is not in the grid.
    """
    for kind, asked, known in (
        ("preset", presets, list(grid.steps)),
        ("method", methods, list(grid.methods)),
    ):
        unknown = sorted(set(asked) - set(known))
        if unknown:
            raise GridError(f"no {kind} {unknown[0]!r} in this mode; it has {', '.join(known)}")
    steps = {name: count for name, count in grid.steps.items() if not presets or name in presets}
    kept = tuple(name for name in grid.methods if not methods or name in methods)
    return replace(grid, steps=steps, methods=kept)
