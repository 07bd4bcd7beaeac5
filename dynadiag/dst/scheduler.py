"""What moves topologies, temperatures and counts along with the steps of an optimizer."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, Self, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..nn.dynamic import DynamicLinear
from .amp import true_gradients
from .changes import Cause, TopologyChange
from .layers import dynamic_layers
from .moments import forget_moments
from .steps import OptimizerSteps
from .trained import check_optimizer, common_method, learning_rates


@final
class Scheduler:
    """Trains the topology of a converted model along with its weights.

    Call `step()` after every `optimizer.step()`, before or after the gradients are cleared; or
    `attach()` once, and never. Only steps that the optimizer really takes count: micro-batches of
    an accumulated gradient together once, steps that a GradScaler skips not at all.

    Topologies move at the beginning of such a step, when its gradients are complete and averaged
    over all ranks; the optimizer then forgets its moments of what was dropped or grown. All else is
    a pure function of the step, so that the state to save is one number. In the steps whose update
    looks at inactive units, their gradients count in a gradient norm too.

    Attributes:
        total_steps: optimizer steps of the training.
        seed: of the random topologies, the same on all ranks.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, *, total_steps: int, seed: int = 0
    ) -> None:
        """Check the model and the optimizer, and set the layers up for the first step.

        Args:
            model: converted, wrapped (DDP, FSDP2, compiled) or not.
            optimizer: any torch optimizer of all trainable parameters of the sparse layers.
            total_steps: optimizer steps of the training.
            seed: of the random topologies.

        Raises:
            ValueError: total_steps is no number from 1 on, the model has no sparse layer or layers
                of several methods, or the optimizer misses a parameter or has a Scheduler already.
        """
        if not isinstance(total_steps, int | Integral) or total_steps < 1:
            raise ValueError(
                f"total_steps is {total_steps!r}, but a training has a whole number of steps, at "
                "least 1"
            )
        layers = dynamic_layers(model)
        self._method = common_method(model, layers)
        check_optimizer(optimizer, model)
        self.total_steps = int(total_steps)
        self.seed = seed
        self._model = model
        self._optimizer = optimizer
        self._step = 0
        self._attached = False
        # From the beginning of a step of the optimizer: the learned topologies it starts from.
        self._chosen: dict[str, Tensor] | None = None
        # From its end until step(): whether there is one to count.
        self._stepped = False
        self._listeners: OrderedDict[int, Callable[[TopologyChange], None]] = OrderedDict()
        self._steps = OptimizerSteps(optimizer, self._begin, self._end)
        self._prepare(layers)

    @property
    def last_step(self) -> int:
        """Number of optimizer steps counted so far."""
        return self._step

    def step(self) -> None:
        """Count the step that the optimizer has taken and set the layers up for the next one.

        Does nothing if the optimizer has taken none, as when a GradScaler skipped it.

        Raises:
            RuntimeError: all `total_steps` are done.
        """
        self._check_not_over()
        if not self._stepped or self._chosen is None:
            return
        self._stepped = False
        self._step += 1
        layers = dynamic_layers(self._model)
        self._prepare(layers)
        for name, layer in layers.items():
            if name in self._chosen:
                self._forget_drift(name, layer, self._chosen[name])

    def attach(self) -> Self:
        """Have every optimizer step followed by `step()`; return this Scheduler."""
        self._attached = True
        return self

    def detach(self) -> None:
        """Leave the optimizer alone from now on; another Scheduler may take over."""
        self._steps.remove()

    def set_up(self, copy: nn.Module) -> None:
        """Give a copy of the model the temperature and the number of units of this step.

        They are not part of the weights, so a copy made earlier, such as a moving average, does
        not follow the schedules of the model by itself.
        """
        for layer in dynamic_layers(copy).values():
            self._advance(layer)

    def register_hook(self, hook: Callable[[TopologyChange], None]) -> RemovableHandle:
        """Call a function with every update, and every drift, of the topology of every layer.

        Returns:
            A handle whose `remove()` ends that.
        """
        handle = RemovableHandle(self._listeners)
        self._listeners[handle.id] = hook
        return handle

    def state_dict(self) -> dict[str, Any]:
        """Return the step, and what tells this training from others, as plain values.

        Raises:
            RuntimeError: the optimizer has taken a step that `step()` has not counted yet.
        """
        if self._stepped:
            raise RuntimeError(
                "the optimizer has taken a step that is not counted yet; save after "
                "Scheduler.step(), not before"
            )
        return {"step": self._step, "seed": self.seed} | self._fingerprint()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved step; model and optimizer load their own states, in any order.

        Raises:
            ValueError: the state is of another method, plan or number of steps; nothing is loaded.
        """
        own = self._fingerprint()
        for name in {**own, **state}:
            if name not in ("step", "seed") and state.get(name) != own.get(name):
                raise ValueError(
                    f"the checkpoint says {name}: {state.get(name)}, but this training has "
                    f"{own.get(name)}; convert the model with the plan of the checkpoint, and make "
                    "the Scheduler with its total_steps"
                )
        step = int(state["step"])
        if not 0 <= step <= self.total_steps:
            raise ValueError(
                f"the checkpoint says step: {step}, but this training has {self.total_steps} steps"
            )
        self._step, self.seed = step, int(state["seed"])
        self._stepped, self._chosen = False, None
        self._prepare(dynamic_layers(self._model))

    def _fingerprint(self) -> dict[str, Any]:
        """Return what has to be the same for a training to go on, as plain values."""
        layers = dynamic_layers(self._model).items()
        sizes = {
            name: f"{layer.num_active_target} of {layer.units} units" for name, layer in layers
        }
        return {"total_steps": self.total_steps, "method": repr(self._method)} | sizes

    def _check_not_over(self) -> None:
        if self._step == self.total_steps:
            raise RuntimeError(
                f"all {self.total_steps} steps of this Scheduler are done; make it with a larger "
                "total_steps, or stop calling step() (detach() if attached)"
            )

    def _prepare(self, layers: Mapping[str, DynamicLinear]) -> None:
        """Set what follows from the step."""
        due = self._step < self.total_steps and self._updates()
        for layer in layers.values():
            self._advance(layer)
            layer.set_dense_gradient(due and self._method.needs_gradient)

    def _advance(self, layer: DynamicLinear) -> None:
        """Set what a layer has in this step; after the end all stays as in the last one."""
        self._method.advance(layer, min(self._step, self.total_steps - 1), self.total_steps)

    def _updates(self) -> bool:
        return self._method.updates(self._step, self.total_steps)

    @torch.no_grad()
    def _begin(self) -> None:
        """Move the topologies if it is time, and note what the optimizer starts from."""
        self._chosen = None
        if self._attached:
            self._check_not_over()
        if self._step == self.total_steps:
            return
        if self._stepped:
            raise RuntimeError(
                "the optimizer steps again, but its last step is not counted; call "
                "Scheduler.step() after every optimizer.step(), or attach() once"
            )
        layers = dynamic_layers(self._model)
        if self._updates():
            self._check_gradients(layers)
            for index, (name, layer) in enumerate(layers.items()):
                with true_gradients(self._optimizer, layer):
                    self._update(index, name, layer)
        drifting = {name: each for name, each in layers.items() if self._method.drifts(each)}
        self._chosen = {name: layer.active() for name, layer in drifting.items()}

    def _update(self, index: int, name: str, layer: DynamicLinear) -> None:
        if self._method.needs_gradient and layer.values.grad is None:
            return  # no part of this step, which leaves its weights alone too
        before = layer.active()
        generator = _generator(self.seed, self._step, index)
        changed = self._method.update(layer, self._step, self.total_steps, generator)
        if changed is not None:
            forget_moments(self._optimizer, layer, changed)
        layer.mask_gradients()
        if self._listeners:
            self._tell("update", self._step, name, layer, before)

    def _check_gradients(self, layers: Mapping[str, DynamicLinear]) -> None:
        missing = all(layer.values.grad is None for layer in layers.values())
        if missing and self._method.needs_gradient:
            raise RuntimeError(
                f"{self._method.name} updates by gradients, but no layer has one in .grad when the "
                "optimizer steps; clear them after optimizer.step(), not before"
            )

    @torch.no_grad()
    def _end(self) -> None:
        if self._chosen is None:
            return
        rates = learning_rates(self._optimizer)
        for layer in dynamic_layers(self._model).values():
            self._method.after_step(layer, rates.get(getattr(layer, "alpha", layer.values), 0.0))
        self._stepped = True
        if self._attached:
            self.step()

    def _forget_drift(self, name: str, layer: DynamicLinear, before: Tensor) -> None:
        """Forget the moments of units that the step, not an update, dropped or grew."""
        changed = before ^ layer.active()
        # On a GPU, to forget nothing is cheaper than to wait for the answer.
        if changed.is_cuda or bool(changed.any()):
            forget_moments(self._optimizer, layer, changed)
        if self._listeners and bool(changed.any()):
            self._tell("drift", self._step - 1, name, layer, before)

    def _tell(
        self, cause: Cause, step: int, name: str, layer: DynamicLinear, before: Tensor
    ) -> None:
        change = TopologyChange.since(before, layer, name=name, step=step, cause=cause)
        for listener in tuple(self._listeners.values()):
            listener(change)


def _generator(seed: int, step: int, index: int) -> torch.Generator:
    """Return a generator that is the same on all ranks and in all processes."""
    digest = hashlib.blake2b(f"{seed}/{step}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
