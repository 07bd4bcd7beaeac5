"""A linear layer that learns which wrapped diagonals to keep."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .. import functional, geometry, kernels, operators
from ..khot import straight_through, wide
from ..masked_operators import masked
from ..selected_operators import one_operator, selected_linear
from .diagonal import DiagonalLinear
from .dynamic import DynamicLinear
from .selection_weights import SELECTIONS, check_selection, largest_first, ranking
from .sharded import assign_, full

_ALPHA_DEVIATION = 0.01
# Between the alpha of active and of inactive diagonals, relative: bfloat16 rounds to 2^-9.
_GAP = 2.0**-6


class DynamicDiagonalLinear(DynamicLinear):
    """y = x Wᵀ + b, W = Σ alpha~_s · (diagonal s), alpha~ trained too (arXiv 2506.11449, eq. 2-5).

    Holds the values of all P = max(in_features, out_features) candidate diagonals, of length
    D = min(in_features, out_features), and one alpha for each. The topology is the `num_active`
    largest alpha, ties by index, and needs no further state.

    `selection` says what alpha~ is:

    - `hard_topk`: 1 for the largest alpha, 0 for the rest; only the diagonals selected are
      computed, and alpha learns by a straight-through gradient;
    - `khot`: sigmoids that sum to `num_active`;
    - `soft_topk`: min(K softmax(alpha / T), 1), the paper's formula.

    The last two compute all P diagonals and give all a gradient, whatever `dense_gradient` is;
    `active()` says which would stay.

    Say how many diagonals stay by exactly one of `sparsity` and `num_diagonals`. `num_active` and
    `temperature` follow from the training step, so they are no part of the state: a `Scheduler`
    sets them anew.

    Drawn and set topologies keep alpha apart by more than bfloat16 rounds, so that a cast selects
    the same diagonals; where alpha is learned only `freeze_` makes a cast safe.

    Attributes:
        values: (P, D) parameter; row s is the diagonal at offset s.
        alpha: (P,) parameter.
        selection: how alpha~ follows from alpha.
        temperature: 0-dim float32 on the CPU; the lower, the fewer diagonals alpha~ favours.
        num_active: 0-dim int64 on the CPU; the number of diagonals selected now.
        reserved: the number of diagonals that `hard_topk` computes; those beyond `num_active`
            count for 0. Changing it compiles a compiled layer again.
        backend: what computes the products; see `dynadiag.backends()`.
    """

    format: ClassVar[str] = "dynamic_diagonal"
    pattern: ClassVar[tuple[str, ...]] = ()
    alpha: nn.Parameter
    temperature: Tensor
    num_active: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        sparsity: float | None = None,
        num_diagonals: int | None = None,
        selection: str = "hard_topk",
        temperature: float = 1.0,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        geometry.check_features(in_features, out_features)
        kernels.check_name(backend)
        check_selection(selection)
        k = _count(in_features, out_features, sparsity, num_diagonals)
        requested = geometry.achieved_sparsity(out_features, in_features, k)
        super().__init__(
            in_features,
            out_features,
            bias,
            sparsity=requested if sparsity is None else sparsity,
            device=device,
            dtype=dtype,
        )
        self.backend = backend
        self.selection = selection
        self.num_active_target = self.reserved = k
        self.num_active = torch.tensor(k, device="cpu")
        self.temperature = torch.ones((), device="cpu", dtype=torch.float32)
        self.set_temperature(temperature)
        candidates = geometry.num_candidates(out_features, in_features)
        length = geometry.diagonal_length(out_features, in_features)
        self.values = nn.Parameter(torch.empty(candidates, length, device=device, dtype=dtype))
        self.alpha = nn.Parameter(torch.empty(candidates, device=device, dtype=dtype))
        self.alpha._no_weight_decay = True  # type: ignore[attr-defined]
        self._pattern_changed()
        self.reset_parameters()

    @classmethod
    def why_not(
        cls,
        in_features: int,
        out_features: int,
        sparsity: float,
        dtype: torch.dtype | None = None,
        *,
        device: str = "cpu",
    ) -> str | None:
        """Return None: diagonals fit every shape and sparsity."""
        return None

    @classmethod
    def from_linear(cls, linear: nn.Linear, **structure: Any) -> Self:
        """Take all diagonals of a dense layer; alpha ranks them by their L2 norm.

        Args:
            linear: the dense layer, left as it is.
            structure: what the constructor takes beyond sizes, `sparsity` or `num_diagonals`.

        Returns:
            A layer on the device and in the dtype of `linear`.
        """
        layer = super().from_linear(linear, **structure)
        with torch.no_grad():
            nn.init.normal_(layer.alpha, std=_ALPHA_DEVIATION)
            descending = layer.alpha.sort(descending=True).values
            layer.alpha[ranking(layer.values.norm(dim=1))] = descending
            assign_(layer.alpha, _apart(layer.alpha, layer.active()))
        return layer

    @property
    def units(self) -> int:
        """P, the number of candidate diagonals."""
        return geometry.num_candidates(self.out_features, self.in_features)

    @property
    def kept(self) -> int:
        """Number of diagonals selected now."""
        return int(self.num_active)

    @property
    def num_diagonals(self) -> int:
        """K, the number of diagonals selected when training ends."""
        return self.num_active_target

    @property
    def nnz(self) -> int:
        """Number of weights on the diagonals selected now."""
        return self.kept * geometry.diagonal_length(self.out_features, self.in_features)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the values and alpha of all candidates: training holds what it may select."""
        return self.values.nbytes + self.alpha.nbytes

    @property
    def index_dtype(self) -> str | None:
        """None: the row of a diagonal is its offset."""
        return None

    @property
    def weight(self) -> Tensor:
        """The dense (out_features, in_features) matrix, differentiable in `values` and `alpha`."""
        rows = self._scaled(self.values).to(self.values.dtype)
        m, n = self.out_features, self.in_features
        return functional.diagonal_to_dense(rows, self._candidates, out_features=m, in_features=n)

    @property
    def config(self) -> str:
        """The backend, the selection and the number of diagonals."""
        return f"backend={self.backend} selection={self.selection} num_diagonals={self.kept}"

    def reset_parameters(self) -> None:
        """Draw values and bias as every sparse layer, and alpha.

        alpha is 1 / P for `soft_topk`, as in the published code; for the others it is drawn from
        a narrow normal distribution, so that the first topology is random.
        """
        super().reset_parameters()
        if self.selection == "soft_topk":
            nn.init.constant_(self.alpha, 1 / self.units)
        else:
            nn.init.normal_(self.alpha, std=_ALPHA_DEVIATION)
            assign_(self.alpha, _apart(full(self.alpha), self.active()))

    @torch.no_grad()
    def set_temperature(self, temperature: float) -> None:
        """Set T for the forwards to come; raises ValueError unless it is positive."""
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}, but must be positive; such as 0.01")
        self.temperature.fill_(temperature)

    @torch.no_grad()
    def set_num_active(self, num_active: int) -> None:
        """Set how many diagonals are selected in the forwards to come.

        Raises:
            ValueError: fewer than 1, more than there are, or more than `hard_topk` has reserved.
        """
        geometry.check_num_diagonals(self.out_features, self.in_features, num_active)
        if self.selection == "hard_topk" and num_active > self.reserved:
            raise ValueError(
                f"num_active is {num_active}, but {self.reserved} diagonals are computed; "
                f"call reserve({num_active}) before the first step"
            )
        self.num_active.fill_(num_active)

    def reserve(self, num_diagonals: int) -> None:
        """Have `hard_topk` compute up to this many diagonals, at least those selected now.

        Raises:
            ValueError: there are not that many, or more are selected.
        """
        geometry.check_num_diagonals(self.out_features, self.in_features, num_diagonals)
        if num_diagonals < self.kept:
            raise ValueError(
                f"num_diagonals is {num_diagonals}, but {self.kept} are selected; "
                "reserve at least as many, or call set_num_active first"
            )
        self.reserved = num_diagonals

    def active(self) -> Tensor:
        """Return which diagonals are selected: (P,) bool."""
        return self._first(self.kept)

    @torch.no_grad()
    def strength(self) -> Tensor:
        """Return the L2 norms (P,) in float32: scaled by alpha~ where active, else as stored."""
        weights = self._weights(full(self.alpha))
        scale = torch.where(self.active(), weights.float(), 1)
        return self._magnitudes(full(self.values).float()) * scale

    def over_values(self, units: Tensor) -> Tensor:
        """Return a mask (P,) of diagonals as one of (P, D), without copying."""
        return units.unsqueeze(1).expand(self.values.shape)

    def mask_gradients(self) -> None:
        """Zero the gradients of inactive diagonals, in place; soft selections train them all."""
        if self.selection == "hard_topk":
            super().mask_gradients()

    @torch.no_grad()
    def compact(self) -> DiagonalLinear:
        """Return a layer of the diagonals selected now, alpha~ folded into their values.

        The output is that of `hard_topk`; of a soft selection it is so far as the diagonals left
        out count for nothing.
        """
        offsets = self.active().nonzero()[:, 0].int()
        weights = self._weights(full(self.alpha))
        layer = DiagonalLinear(
            self.in_features,
            self.out_features,
            self.bias is not None,
            offsets=offsets,
            backend=self.backend,
            device=offsets.device,
            dtype=self.values.dtype,
        )
        layer.values.copy_(full(self.values)[offsets] * weights[offsets].unsqueeze(1))
        self._hand_over(layer)
        return layer

    def extra_repr(self) -> str:
        """Return the constructor arguments, with the sparsity that was reached."""
        return f"{super().extra_repr()}, selection={self.selection}"

    def _multiply(self, x: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        if self.selection == "hard_topk":
            sizes = (self.out_features, self.backend)
            operator = one_operator(x, values, self.alpha, self.reserved, *sizes)
            if operator is not None:
                k, heat = int(self.num_active), float(self.temperature)
                given = (x, values, self.alpha, bias, self.dense_gradient)
                return operator(*given, k, self.reserved, heat, self.out_features)
            offsets, chosen = largest_first(self.alpha, self.num_active, self.reserved)
            topology = (offsets, chosen, self.num_active, self.temperature, self.dense_gradient)
            return selected_linear(x, values, self.alpha, bias, *topology, *sizes)
        rows = self._scaled(values).to(x.dtype)
        return operators.linear(x, rows, self._candidates, bias, self.out_features, self.backend)

    def _forward_autocast(self, x: Tensor) -> Tensor:
        """Cast what is selected: casting all candidates would cost more than the product."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else self.bias.to(dtype)
        rows = x.reshape(-1, self.in_features).to(dtype)
        with torch.autocast(device, enabled=False):
            y = self._multiply(rows, self.values, bias)
        return y.reshape(*x.shape[:-1], self.out_features)

    def _weights(self, alpha: Tensor) -> Tensor:
        """Return alpha~ (P,)."""
        return SELECTIONS[self.selection](alpha, self.num_active, self.temperature)

    def _scaled(self, values: Tensor) -> Tensor:
        """Return alpha~ times the values of all candidates, (P, D)."""
        if self.selection != "hard_topk":
            return values * self._weights(self.alpha).unsqueeze(1)
        k, scores = self.num_active, wide(self.alpha)
        every, chosen = largest_first(self.alpha, k, self.units)
        rows = masked(values, chosen.unsqueeze(1), self.dense_gradient)
        # Ones with the gradient of alpha~: what is not chosen is zero already.
        ones = straight_through(scores, every, torch.ones_like(chosen), k, self.temperature)
        return rows * ones.unsqueeze(1)

    def _first(self, count: int) -> Tensor:
        alpha = full(self.alpha)
        chosen = torch.zeros(len(alpha), dtype=torch.bool, device=alpha.device)
        chosen[ranking(alpha)[:count]] = True
        return chosen

    def _magnitudes(self, values: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(values, dim=1)
        return norms

    def _activate(self, active: Tensor, before: Tensor) -> None:
        """Swap alpha between those that come and those that go, in the order of their size."""
        count = int(active.sum())
        self.set_num_active(count)
        alpha = full(self.alpha).clone()
        order = ranking(alpha)
        first = self._first(count)
        comes, goes = order[(active & ~first)[order]], order[(first & ~active)[order]]
        alpha[comes], alpha[goes] = alpha[goes], alpha[comes]
        assign_(self.alpha, _apart(alpha, active))

    def _pattern_changed(self) -> None:
        self._candidates = torch.arange(self.units, dtype=torch.int32, device=self.values.device)

    def _largest(self, scores: Tensor) -> tuple[Tensor, ...]:
        return ()

    def _gather(self, dense: Tensor) -> Tensor:
        return functional.dense_to_diagonal(dense, self._candidates)

    def _wrong_pattern(self, *buffers: Tensor) -> str | None:
        return None


def _apart(alpha: Tensor, active: Tensor) -> Tensor:
    """Return alpha with those of inactive diagonals below the rest, by a gap that casts keep."""
    least = alpha.where(active, torch.inf).min()
    below = least - least.abs() * _GAP - torch.finfo(torch.float16).tiny
    return torch.where(active, alpha, alpha.clamp(max=below))


def _count(
    in_features: int, out_features: int, sparsity: float | None, num_diagonals: int | None
) -> int:
    """Return K from the one way it was given."""
    if sparsity is not None and num_diagonals is None:
        return geometry.num_diagonals(out_features, in_features, sparsity)
    if sparsity is None and num_diagonals is not None:
        geometry.check_num_diagonals(out_features, in_features, num_diagonals)
        return num_diagonals
    got = "none" if sparsity is None else "both"
    raise ValueError(f"got {got} of sparsity and num_diagonals; pass exactly one of them")
