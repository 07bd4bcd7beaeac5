"""What a conversion is going to do to a model: which layers, how sparse, and why not the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from torch import nn

from ..geometry import check_sparsity
from ..nn.base import SparseLinear
from .candidates import Candidate, candidates
from .distributions import Allotment, Sizes, check_distribution, distribute
from .method import Method
from .names import as_patterns, check_patterns, matches
from .positions import count_positions
from .registry import method as find_method
from .split import Split, check_split, count_parts
from .table import table

# Why the method `dense` skips a layer that another would convert.
AS_DENSE = "the method is dense"


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of one layer.

    Attributes:
        name: dotted path in the model.
        out_features: size of the last dimension of y.
        in_features: size of the last dimension of x.
        skipped: why the layer stays dense, or None.
        parts: layers it is split into, one below the other.
        unit: weights of a part that come and go together; what they are is the method's.
        kept: units kept, in each part.
        asked: sparsity that the distribution wanted before rounding to whole units.
    """

    name: str
    out_features: int
    in_features: int
    skipped: str | None = None
    parts: int = 1
    unit: int = 1
    kept: int = 0
    asked: float = 0.0

    @property
    def units(self) -> int:
        """Units there are, in each part."""
        return self.out_features * self.in_features // (self.parts * self.unit)

    @property
    def weights(self) -> int:
        """Weights kept, over all parts."""
        if self.skipped is not None:
            return self.out_features * self.in_features
        return self.kept * self.unit * self.parts

    @property
    def achieved(self) -> float:
        """Sparsity reached."""
        return 1 - self.weights / (self.out_features * self.in_features)


@dataclass(frozen=True)
class Plan:
    """What a conversion does to every linear layer of a model; `print` shows it as a table.

    Attributes:
        method: trains the converted layers.
        sparsity: the share of zeros asked for over the converted layers together.
        distribution: how it is shared among them.
        layers: in the order of the model's modules, skipped ones too.
    """

    method: Method
    sparsity: float
    distribution: str
    layers: tuple[LayerPlan, ...]

    @property
    def converted(self) -> tuple[LayerPlan, ...]:
        """The layers that become sparse."""
        return tuple(row for row in self.layers if row.skipped is None)

    @property
    def weights(self) -> int:
        """Weights that the converted layers keep."""
        return sum(row.weights for row in self.converted)

    @property
    def achieved(self) -> float:
        """Sparsity reached over the converted layers together."""
        dense = sum(row.out_features * row.in_features for row in self.converted)
        return 1 - self.weights / dense if dense else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, for a checkpoint or a JSON file."""
        return {
            "method": self.method.name,
            "options": self.method.options(),
            "sparsity": self.sparsity,
            "distribution": self.distribution,
            "layers": [asdict(row) for row in self.layers],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Return the plan that `to_dict` made plain.

        Raises:
            ValueError: the method or an option of it is unknown.
        """
        return cls(
            method=find_method(plain["method"], **plain["options"]),
            sparsity=plain["sparsity"],
            distribution=plain["distribution"],
            layers=tuple(LayerPlan(**row) for row in plain["layers"]),
        )

    def __str__(self) -> str:
        return table(self)


def plan(
    model: nn.Module,
    *,
    sparsity: float,
    method: str = "dynadiag",
    distribution: str = "compute",
    exclude: str | Iterable[str] = (),
    include: str | Iterable[str] | None = None,
    split: Split = "auto",
    example: Any = None,
    **method_options: Any,
) -> Plan:
    """Decide how to make a model sparse, without changing it.

    Args:
        model: dense; its linear layers are looked at.
        sparsity: the share of zeros in [0, 1) over all converted layers together. Layers that stay
            dense are no part of the budget.
        method: name of the training method; `dynadiag.methods()` lists them.
        distribution: `uniform`, the same sparsity everywhere, each layer rounded to its nearest
            unit; `erk`, wide layers sparser; or `compute`, weights in proportion to
            multiplications. The last two meet the budget up to one unit, or keep one a layer.
        exclude: patterns of modules to leave dense: `head` names every module of that name and
            what it holds; `blocks.*.attn` works too.
        include: patterns of modules outside of which all stays dense; None for the whole model.
        split: `auto` splits fused q, k, v layers into three; or numbers of parts by pattern.
        example: an input of the model, a tuple of positional or a mapping of keyword arguments, on
            which `compute` counts what each layer multiplies; without it every layer is taken to
            see as many positions as any other, which gives all about the same sparsity.
        method_options: what the method takes.

    Raises:
        ValueError: nothing can be converted, a pattern matches no module, a layer cannot reach its
            sparsity, the model is sparse already, or a name, option or value is unknown.
    """
    check_sparsity(sparsity)
    check_distribution(distribution)
    check_split(split)
    ruling = find_method(method, **method_options)
    check_dense(model)
    excluded = as_patterns(exclude)
    included = None if include is None else as_patterns(include)
    found = candidates(model)
    names = {each.name for each in found}.union(
        name for name, _ in model.named_modules(remove_duplicate=False)
    )
    check_patterns("exclude", excluded, names)
    check_patterns("include", included or (), names)
    check_patterns("split", () if split == "auto" else split, names)
    skipped = {each.name: _why_skipped(each, ruling, excluded, included) for each in found}
    chosen = [each for each in found if skipped[each.name] is None]
    if not chosen and ruling.layer != "dense":
        raise ValueError(_nothing_left(skipped))
    sizes = _sizes(model, chosen, ruling, split, example)
    allotted = distribute(distribution, sizes, sparsity)
    rows = {row.name: row for row in map(_row, chosen, sizes, allotted)}
    for row in rows.values():
        _check_reachable(
            ruling, row.name, row.out_features // row.parts, row.in_features, row.asked
        )
    dense = (LayerPlan(e.name, e.out_features, e.in_features, skipped[e.name]) for e in found)
    layers = tuple(rows.get(row.name, row) for row in dense)
    return Plan(ruling, float(sparsity), distribution, layers)


def check_dense(model: nn.Module) -> None:
    """Raise ValueError if a model holds sparse layers already."""
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear):
            raise ValueError(
                f"the model is sparse already: {name or 'it'} is a {type(module).__name__}; "
                "start from a dense model, such as dynadiag.to_dense_ returns"
            )


def _why_skipped(
    layer: Candidate,
    method: Method,
    excluded: Collection[str],
    included: Collection[str] | None,
) -> str | None:
    names = (layer.name, *layer.aliases)
    if any(matches(name, pattern) for name in names for pattern in excluded):
        return "excluded"
    if included is not None and not any(matches(n, pattern) for n in names for pattern in included):
        return "not included"
    if method.layer == "dense":
        return AS_DENSE
    return layer.refusal


def _nothing_left(skipped: Mapping[str, str | None]) -> str:
    if not skipped:
        return "the model has no linear layer to convert; nn.Linear and Conv1D of transformers are"
    named: dict[str | None, list[str]] = {}
    for name, reason in skipped.items():
        named.setdefault(reason, []).append(name or "the model")
    listed = "; ".join(
        f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {reason}"
        for reason, names in named.items()
    )
    return f"the model has no linear layer left to convert, change exclude or include: {listed}"


def _sizes(
    model: nn.Module, chosen: list[Candidate], method: Method, split: Split, example: Any
) -> list[Sizes]:
    parts = [count_parts(layer, split) for layer in chosen]
    positions = [1] * len(chosen)
    if example is not None:
        positions = count_positions(model, [layer.name for layer in chosen], example)
    sizes = []
    for layer, count, seen in zip(chosen, parts, positions, strict=True):
        rows, columns = layer.out_features // count, layer.in_features
        _check_reachable(method, layer.name, rows, columns, 0.0)  # of whole units at all
        sizes.append(Sizes(rows, columns, method.granularity(rows, columns), count, seen))
    return sizes


def _row(layer: Candidate, sizes: Sizes, given: Allotment) -> LayerPlan:
    return LayerPlan(
        layer.name,
        layer.out_features,
        layer.in_features,
        parts=sizes.parts,
        unit=sizes.unit,
        kept=given.kept,
        asked=given.asked,
    )


def _check_reachable(method: Method, name: str, rows: int, columns: int, sparsity: float) -> None:
    reason = method.why_not(rows, columns, sparsity)
    if reason is not None:
        raise ValueError(f"layer {name} cannot be made sparse by {method.name}: {reason}")
