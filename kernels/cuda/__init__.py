"""The CUDA backend: kernels compiled for the card at hand on first use (see `compiler.py`)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..activation import ACTIVATIONS, check_activation
from ..cache import BuildError
from ..registry import Backend, register
from . import compiler, device
from .cost import Launch
from .device import Device
from .launcher import Argument, CupyLauncher, Launcher
from .plan import plan_grad_values, plan_multiply, plan_reduce

# As epilogue.cuh counts them.
NO_ACTIVATION = 0
_CODES = {None: NO_ACTIVATION} | {name: code for code, name in enumerate(ACTIVATIONS, start=1)}


def _device_of(tensor: Tensor) -> Device:
    return Device.of(tensor.device.index)


class Cuda(Backend):
    """Sums in float32, deterministic; bias and activation within the product.

    All work is queued on torch's current stream, in memory that torch allocates; nothing waits for
    the device. Calls may be captured in CUDA graphs once an equal call has been made outside.
    """

    name = "cuda"
    devices = ("cuda",)
    dtypes = (torch.float32, torch.bfloat16, torch.float16)

    def __init__(
        self,
        launcher: Launcher | None = None,
        device_of: Callable[[Tensor], Device] = _device_of,
    ) -> None:
        """Take what runs the kernels, and what tells the device that a tensor is on."""
        self._launcher = CupyLauncher() if launcher is None else launcher
        self._device_of = device_of

    def unavailable(self) -> str | None:
        """Return why there is no GPU to run on, or no CuPy or NVRTC to reach it, or None."""
        return _unavailable()

    def forward(
        self,
        x: Tensor,
        values: Tensor,
        offsets: Tensor,
        bias: Tensor | None,
        out_features: int,
        activation: str | None = None,
    ) -> Tensor:
        """Return f(x Wᵀ + b), (..., out_features), f being the activation if any."""
        check_activation(activation)
        scatter = out_features >= x.shape[-1]
        return self._multiply(x, values, offsets, bias, out_features, scatter, _CODES[activation])

    def grad_x(self, grad: Tensor, values: Tensor, offsets: Tensor, in_features: int) -> Tensor:
        """Return dy W, (..., in_features): the product with the transpose."""
        scatter = in_features > grad.shape[-1]
        return self._multiply(grad, values, offsets, None, in_features, scatter, NO_ACTIVATION)

    def grad_values(self, grad: Tensor, x: Tensor, offsets: Tensor) -> Tensor:
        """Return the (K, D) gradient of the values."""
        shorter, longer = (x, grad) if grad.shape[-1] >= x.shape[-1] else (grad, x)
        shorter, longer = _rows(shorter), _rows(longer)
        sizes = (len(longer), shorter.shape[-1], longer.shape[-1], len(offsets))
        batch, length, _, k = sizes
        if batch == 0:
            return x.new_zeros(k, length)
        plan = plan_grad_values(self._device_of(x), x.dtype, *sizes)
        sums = x.new_empty(k, length)
        operands = (shorter, longer, offsets.contiguous())
        if plan.is_naive:
            self._launch(plan, *operands, sums, *sizes)
        else:
            partial = _partial(plan, sums)
            self._launch(plan, *operands, partial, *sizes)
            self._reduce(partial, None, sums, NO_ACTIVATION)
        return sums

    def _multiply(
        self,
        operand: Tensor,
        values: Tensor,
        offsets: Tensor,
        bias: Tensor | None,
        size: int,
        scatter: bool,
        code: int,
    ) -> Tensor:
        """Return the product with W or its transpose, (..., size)."""
        rows = _rows(operand)
        batch, columns = rows.shape
        y = rows.new_empty(*operand.shape[:-1], size)
        if batch == 0:
            return y
        sizes = (batch, columns, size, offsets.shape[0])
        plan = plan_multiply(self._device_of(rows), rows.dtype, *sizes, scatter=scatter)
        operands = (rows, values.contiguous(), offsets.contiguous())
        bias = None if bias is None else bias.contiguous()
        if plan.is_naive:
            self._launch(plan, *operands, bias, y, *sizes, code)
        elif plan.slices == 1:
            self._launch(plan, *operands, bias, y, None, *sizes, code)
        else:
            partial = _partial(plan, y)
            self._launch(plan, *operands, None, None, partial, *sizes, NO_ACTIVATION)
            self._reduce(partial, bias, y, code)
        return y

    def _reduce(self, partial: Tensor, bias: Tensor | None, out: Tensor, code: int) -> None:
        """Fill `out` with the activation of the sum of slices and the bias."""
        plan = plan_reduce(out.dtype, out.numel())
        sizes = (out.numel(), partial.shape[0], out.shape[-1])
        self._launch(plan, partial, bias, out, *sizes, code)

    def _launch(self, plan: Launch, *args: Argument) -> None:
        self._launcher.launch(plan.variant, plan.grid, plan.block, plan.shared_bytes, args)


def _rows(tensor: Tensor) -> Tensor:
    """Return the tensor as contiguous rows of its last dimension."""
    if tensor.ndim == 2:
        return tensor.contiguous()
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()


def _partial(plan: Launch, out: Tensor) -> Tensor:
    """Return room for the float32 sums of each slice."""
    return out.new_empty((plan.slices, *out.shape), dtype=torch.float32)


@functools.cache
def _unavailable() -> str | None:
    reason = device.unavailable()
    if reason is not None:
        return reason
    try:
        compiler.import_cupy()
        compiler.import_nvrtc()
    except BuildError as error:
        return str(error)
    return None


register(Cuda())
