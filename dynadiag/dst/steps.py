"""The steps that an optimizer really takes, seen through the hooks of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch.optim import Optimizer

from .amp import skips_step


@final
class OptimizerSteps:
    """Calls `begin` and `end` around the arithmetic of every step of an optimizer.

    `begin` finds the gradients complete: where a closure computes them inside the step, it is
    called after the first evaluation. Steps that a GradScaler skips are passed over; neither is
    `optimizer.step` replaced, nor do copies of the optimizer inherit the calls.
    """

    def __init__(
        self, optimizer: Optimizer, begin: Callable[[], None], end: Callable[[], None]
    ) -> None:
        """Hook into an optimizer.

        Raises:
            ValueError: something watches its steps already.
        """
        hooks = optimizer._optimizer_step_pre_hooks.values()
        if any(isinstance(getattr(hook, "__self__", None), OptimizerSteps) for hook in hooks):
            raise ValueError(
                "the optimizer has a Scheduler already, and two would move every topology twice; "
                "call detach() on the first one, or make a new optimizer"
            )
        self._begin, self._end = begin, end
        self._taken = False
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Leave the optimizer alone from now on."""
        for handle in self._handles:
            handle.remove()

    def _before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._taken = not skips_step(optimizer)
        if not self._taken:
            return None
        if len(args) > 1 and args[1] is not None:
            return (args[0], _followed(args[1], self._begin), *args[2:]), kwargs
        if kwargs.get("closure") is not None:
            return args, kwargs | {"closure": _followed(kwargs["closure"], self._begin)}
        self._begin()
        return None

    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._taken:
            self._end()


def _followed(closure: Callable[[], Any], action: Callable[[], None]) -> Callable[[], Any]:
    """Return a closure that does the action once, right after the first evaluation."""
    due = [action]

    def evaluate() -> Any:
        result = closure()
        if due:
            due.pop()()
        return result

    return evaluate
