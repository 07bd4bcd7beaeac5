"""A case: one layer shape in one situation, with the arms that are measured side by side."""

from __future__ import annotations

from dataclasses import dataclass

from dynadiag.bench.paired import Precision
from dynadiag.bench.records import Row, case_id

DIRECTIONS = ("forward", "grad_x", "grad_values", "step")
DTYPES = ("float32", "bfloat16", "float16")
REGIMES = ("eager", "cold", "warm")
CONTROLS = ("dense", "dense_again")


class CaseError(ValueError):
    """A grid or a selection that names something unknown."""


@dataclass(frozen=True)
class Case:
    """One layer shape in one situation; its arms are measured side by side.

    Attributes:
        shape: "768x3072" for a layer from 768 to 3072 features.
        sparsity: the share of zeros asked of every sparse arm.
        model: the models that hold such a layer.
        arms: names of the ways to compute it, the controls first.
        regime: how a call meets the device: eager, or on CUDA also cold (caches flushed) and warm
            (replayed), which hide its launch.
    """

    direction: str
    shape: str
    batch: int
    dtype: str
    sparsity: float
    model: str = ""
    arms: tuple[str, ...] = CONTROLS
    regime: str = "eager"

    @property
    def in_features(self) -> int:
        """Features of x."""
        return features(self.shape)[0]

    @property
    def out_features(self) -> int:
        """Features of y."""
        return features(self.shape)[1]

    @property
    def _parameters(self) -> Row:
        return {
            "suite": "layers",
            "direction": self.direction,
            "out_features": self.out_features,
            "in_features": self.in_features,
            "batch": self.batch,
            "dtype": self.dtype,
            "sparsity": self.sparsity,
            "regime": self.regime,
        }

    @property
    def id(self) -> str:
        """Hash of the parameters: the same case has the same id in every run."""
        return case_id(**self._parameters)

    @property
    def columns(self) -> Row:
        """The columns that all rows of the case share."""
        about = {"case_id": self.id, "op": "linear", "duty": "sustained", "process": 0}
        return self._parameters | about | {"model": self.model, "shape": self.shape}

    def __str__(self) -> str:
        """Return a name that reads well and that `-k` can match."""
        name = f"{self.direction}-{self.shape}-b{self.batch}-{self.dtype}-s{self.sparsity:g}"
        return name if self.regime == "eager" else f"{name}-{self.regime}"

    def seed(self, run_seed: int) -> int:
        """Return the seed of inputs, weights and schedule, different for every case of a run."""
        return (int(self.id, 16) + run_seed) % 2**31


@dataclass(frozen=True)
class Mode:
    """What one run measures.

    Attributes:
        precision: how narrow the intervals should be and what that may cost.
        energy: whether energy is measured too, seconds for every arm.
        self_checks: whether the ceilings of the device are measured first, seconds too.
    """

    name: str
    precision: Precision
    energy: bool
    cases: tuple[Case, ...]
    self_checks: bool = True


def features(shape: str) -> tuple[int, int]:
    """Return (in_features, out_features) of a shape such as "768x3072"."""
    inner, _, outer = shape.partition("x")
    return int(inner), int(outer)
