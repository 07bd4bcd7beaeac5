"""One training run as a value: everything that decides its outcome, and the name of its folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from dynadiag.dst.registry import method as find_method
from dynadiag.geometry import check_sparsity
from dynadiag.train.preset import Option, Recipe, preset

# Hashable: a mapping among the values, such as a schedule, is sorted pairs too, a list a tuple.
Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that decides the outcome of a training; made by `create`.

    Attributes:
        preset: name of the model and the data.
        method: name of the method; `dense` converts nothing.
        sparsity: the share of zeros asked for, over all converted layers.
        seed: of the first weights, the topology, the order of examples and dropout.
        fold: which part of the data is tested, where a data set has several; else 0.
        distribution: how the weights kept are shared among the layers.
        exclude: patterns of the layers left dense.
        options: of the method, sorted by name.
        changes: fields of the model's configuration that differ from those of its name.
        recipe: how the model is trained.
        trace: name of a layer whose topology is kept at every update, or None.
    """

    preset: str
    method: str
    sparsity: float
    seed: int
    fold: int = 0
    distribution: str
    exclude: tuple[str, ...]
    options: Options
    changes: Options
    recipe: Recipe
    trace: str | None

    @property
    def name(self) -> str:
        """The name of its folder: what a person looks for, and a hash of everything."""
        digest = hashlib.sha256(json.dumps(self.config(), sort_keys=True).encode()).hexdigest()
        share = f"{100 * self.sparsity:g}"
        return f"{self.preset}-{self.method}-s{share}-seed{self.seed}-{digest[:8]}"

    @property
    def cost(self) -> float:
        """Roughly the seconds it takes."""
        return self.recipe.steps * preset(self.preset).cost

    def config(self) -> dict[str, Any]:
        """Return the run as JSON values, from which `from_config` makes it again."""
        return dataclasses.asdict(self) | {
            "exclude": list(self.exclude),
            "options": _plain(self.options),
            "changes": _plain(self.changes),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the run that `config` describes."""
        changed = {
            "exclude": tuple(config["exclude"]),
            "options": _frozen(config["options"]),
            "changes": _frozen(config["changes"]),
            "recipe": Recipe(**config["recipe"]),
        }
        return cls(**{**config, **changed})


def create(
    name: str,
    method: str = "dynadiag",
    *,
    sparsity: float = 0.9,
    seed: int = 0,
    fold: int = 0,
    distribution: str = "compute",
    exclude: tuple[str, ...] | None = None,
    options: Mapping[str, Option | Mapping[str, Option]] | None = None,
    changes: Mapping[str, Option | Sequence[Option]] | None = None,
    trace: str | None = None,
    **recipe: Any,
) -> Run:
    """Return a run of a preset; what is not said is the preset's.

    Args:
        name: of the preset.
        method: name of the method; a `dense` run has no sparsity, distribution, options or trace.
        sparsity: the share of zeros asked for, over all converted layers.
        seed: of everything drawn at random.
        fold: which part of the data is tested, where a data set has several.
        distribution: how the weights kept are shared among the layers.
        exclude: patterns of the layers left dense.
        options: of the method, as `Method.options()` writes them.
        changes: fields of the model's configuration.
        trace: name of a layer whose topology is kept at every update.
        recipe: fields of the preset's `Recipe`.

    Raises:
        ValueError: if the preset, the method, one of its options or a field of the recipe is
            unknown, or a value impossible.
    """
    base = preset(name)
    if fold < 0:
        raise ValueError(f"fold is {fold}, but must be a whole number, at least 0")
    known = [field.name for field in dataclasses.fields(Recipe)]
    for field in recipe:
        if field not in known:
            raise ValueError(f"a recipe has no {field!r}; it has {', '.join(known)}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed}, but must be a whole number in [0, 2^63)")
    sparse = method != "dense"
    if sparse:
        check_sparsity(sparsity)
        find_method(method, **(options or {}))
    return Run(
        preset=name,
        method=method,
        sparsity=sparsity if sparse else 0.0,
        seed=seed,
        fold=fold,
        distribution=distribution if sparse else "",
        exclude=(base.exclude if exclude is None else exclude) if sparse else (),
        options=_frozen(options or {}) if sparse else _Pairs(),
        changes=_frozen({**base.changes_for(method), **(changes or {})}),
        recipe=dataclasses.replace(base.recipe, **recipe),
        trace=trace if sparse else None,
    )


class _Pairs(tuple[tuple[str, Any], ...]):
    """A mapping that can be hashed."""


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _Pairs((name, _frozen(each)) for name, each in sorted(value.items()))
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {name: _plain(each) for name, each in value}
    return list(map(_plain, value)) if isinstance(value, tuple) else value
