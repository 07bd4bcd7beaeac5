"""DynaDiag: which diagonals a layer keeps is trained with it (arXiv 2506.11449)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from ... import geometry
from ...nn import DynamicDiagonalLinear
from ...nn.dynamic import DynamicLinear
from ...nn.selection_weights import SELECTIONS
from ..build import STARTS, dynamic_diagonals
from ..gradual import GradualMethod
from ..method import check_choice, check_option
from ..schedules import Cosine, Schedule
from ..topology import exchange, prune_and_grow, random_scores

_BOUNDS = ("hard", "soft")
_GROWTH = ("gradient", "random")
_PUBLISHED = Cosine(5.0, 0.05)  # of the example in the README of the published code


@dataclass(frozen=True)
class LearnedDiagonals(GradualMethod):
    """Diagonals compete by alpha at every step, and the weakest are exchanged now and then.

    An update with the `hard` bound drops the weakest diagonals, those of the least norm, and grows
    as many at zero. With the `soft` one it drops what is beyond the target and grows candidates on
    top of it, which are trained until the next update judges them: a layer then computes up to
    1 + `drop` times the diagonals of the target, one more at least, until the last update.

    Attributes:
        start: how the first diagonals are drawn, `random`, `stratified` or `aligned`; see
            `dynadiag.dst.build`. Where all alpha start equal there is nothing to draw.
        selection: how alpha weighs the diagonals, by name: `soft_topk` (equation 5 of the paper),
            `khot`, a relaxation that sums to K, or `hard_topk`, K diagonals at full weight.
        temperature: of the selection, a number or a schedule over the steps.
        l1: pulls alpha towards zero by lr · l1 after each step, apart from the loss.
        bound: `hard`, never more diagonals than the target, or `soft`.
        grow: which diagonals replace the weakest in an update: those of the largest `gradient`, or
            `random` ones.
        learn_alpha: whether the optimizer moves alpha; if not, only updates move the selection.
    """

    layer: ClassVar[str] = "diagonal"

    start: str = "random"
    selection: str = "hard_topk"
    temperature: float | Schedule = 1.0
    l1: float = 0.0
    bound: str = "hard"
    grow: str = "gradient"
    learn_alpha: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("start", self.start, STARTS)
        check_choice("selection", self.selection, SELECTIONS)
        check_choice("bound", self.bound, _BOUNDS)
        check_choice("grow", self.grow, _GROWTH)
        learned = "0 where learn_alpha is False: nothing would shrink; pass learn_alpha=True too"
        check_option("l1", self.l1, self.l1 >= 0, "at least 0")
        check_option("l1", self.l1, self.learn_alpha or self.l1 == 0, learned)
        heat = self.temperature
        lowest = heat.bounds()[0] if isinstance(heat, Schedule) else heat
        check_option("temperature", heat, lowest > 0, "positive at every step")

    @property
    def needs_gradient(self) -> bool:
        """Whether updates grow by gradient."""
        return self.drop > 0 and self.grow == "gradient"

    def build(
        self, linear: nn.Linear, kept: int, generator: torch.Generator
    ) -> DynamicDiagonalLinear:
        """Return a layer that starts from random diagonals; see `Method.build`."""
        candidates = geometry.num_candidates(linear.out_features, linear.in_features)
        layer = dynamic_diagonals(
            linear,
            kept,
            self.initial_count(candidates, kept),
            generator,
            candidates=self._candidates(candidates, kept, self.drop),
            start=self.start,
            selection=self.selection,
            temperature=self._temperature(0, 1),
        )
        layer.alpha.requires_grad_(self.learn_alpha)
        return layer

    def granularity(self, out_features: int, in_features: int) -> int:
        """Return the length of a diagonal."""
        return geometry.diagonal_length(out_features, in_features)

    def updates(self, step: int, total: int) -> bool:
        """Return whether diagonals are exchanged before step `step`: never if `drop` is 0."""
        return self.drop > 0 and super().updates(step, total)

    def topology(
        self, layer: DynamicLinear, step: int, total: int, generator: torch.Generator
    ) -> Tensor:
        """Return the active diagonals after the update; see `PeriodicMethod.topology`."""
        active, strength = layer.active(), layer.strength()
        gradient = self.grow == "gradient"
        promise = layer.gradient_strength() if gradient else random_scores(active, generator)
        if self.bound == "hard":
            fraction = self.fraction(step, total)
            return exchange(active, strength, promise, layer.kept, fraction, regrow=gradient)
        kept = self.count(layer, step, total)
        grown = self._grown(layer, step, total)
        return prune_and_grow(active, strength, promise, layer.kept - kept, grown)

    def advance(self, layer: DynamicLinear, step: int, total: int) -> None:
        """Set the temperature and the number of diagonals for the forward before step `step`."""
        assert isinstance(layer, DynamicDiagonalLinear)
        layer.set_temperature(self._temperature(step, total))
        count = self.count(layer, step, total)
        last = (step - 1) // self.period(total) * self.period(total)
        if last > 0:
            count += self._grown(layer, min(last, self.last_update(total)), total)
        layer.set_num_active(count)

    @torch.no_grad()
    def after_step(self, layer: DynamicLinear, lr: float) -> None:
        """Move alpha towards zero by lr · l1, without passing it."""
        assert isinstance(layer, DynamicDiagonalLinear)
        if self.l1:
            layer.alpha.sub_(layer.alpha.clamp(-lr * self.l1, lr * self.l1))

    def drifts(self, layer: DynamicLinear) -> bool:
        """Return whether alpha or the number of diagonals moves, and the rest gets no gradient."""
        assert isinstance(layer, DynamicDiagonalLinear)
        counts = self.bound == "soft" or self.sparsity_schedule != "constant"
        moves = layer.alpha.requires_grad or self.l1 > 0 or counts
        return moves and layer.selection == "hard_topk"

    def _grown(self, layer: DynamicLinear, step: int, total: int) -> int:
        """Return how many candidates the update at this step leaves beyond the target."""
        if step >= self.last_update(total):
            return 0
        return self._candidates(layer.units, layer.num_active_target, self.fraction(step, total))

    def _candidates(self, units: int, kept: int, fraction: float) -> int:
        """Return the candidates on trial; as many again are left for the next update to grow."""
        if self.bound == "hard" or self.drop == 0:
            return 0
        spare = units - self.initial_count(units, kept)
        return min(max(1, round(fraction * kept)), spare // 2)

    def _temperature(self, step: int, total: int) -> float:
        if isinstance(self.temperature, Schedule):
            return self.temperature(step, total)
        return self.temperature


@final
@dataclass(frozen=True)
class DynaDiag(LearnedDiagonals):
    """The recipe that measures best: K spread diagonals at full weight, the weakest exchanged.

    Where they are too few to reach all features, layers start from the same ones: a digits Mixer of
    99 % sparsity, whose layers keep one or two diagonals, came from 91.0 to 94.7 % of the
    validation split by that (8 seeds).

    Shares round down, so that a layer of three diagonals keeps those it starts with. Whether others
    are exchanged, by gradients, chance or not at all, made no difference that 32 to 64 seeds of the
    digits could tell (`results/studies/choice`). On a byte-level GPT of 95 % exchanges lowered the
    loss by 0.027 ± 0.012 nats in 200 steps and did not in 300 and 700. There the straight-through
    gradient of alpha raised it by 0.12, so alpha is not learned.
    """

    name: ClassVar[str] = "dynadiag"

    start: str = "aligned"
    learn_alpha: bool = False


@final
@dataclass(frozen=True)
class DynaDiagPaper(LearnedDiagonals):
    """The paper's formula: every diagonal is weighed by its share of a softmax that cools down.

    The temperatures are those of the example of the published code; the paper names none.
    """

    name: ClassVar[str] = "dynadiag_paper"

    selection: str = "soft_topk"
    temperature: float | Schedule = _PUBLISHED
    drop: float = 0.0
