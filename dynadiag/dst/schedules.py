"""How a quantity moves over a training run, as pure functions of the optimizer step.

The formulas are those of the published code of arXiv 2506.11449, with steps for its epochs. Each
starts on its first value at step 0; those that know their way end on their last one at step
total_steps - 1, if the run has a step for each of their parts. Decays may not reach theirs.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import final


class Schedule(abc.ABC):
    """A value for every step of a run; call it with the step and the number of steps."""

    def __call__(self, step: int, total_steps: int) -> float:
        """Return the value that the step numbered `step` (from 0) is computed with.

        Whatever comes after the last step keeps its value.

        Raises:
            ValueError: step is negative, or total_steps below 1.
        """
        if total_steps < 1:
            raise ValueError(f"total_steps is {total_steps}, but a run has at least 1 step")
        if step < 0:
            raise ValueError(f"step is {step}, but steps are counted from 0")
        return self._at(min(step, total_steps - 1), total_steps)

    def bounds(self) -> tuple[float, float]:
        """Return two values that every step of every run lies between."""
        ends = [
            getattr(self, name) for name in ("value", "start", "peak", "end") if hasattr(self, name)
        ]
        return min(ends), max(ends)

    @abc.abstractmethod
    def _at(self, step: int, total_steps: int) -> float:
        """Return the value at a step in [0, total_steps)."""


@final
@dataclass(frozen=True)
class Constant(Schedule):
    """One value throughout."""

    value: float

    def _at(self, step: int, total_steps: int) -> float:
        return self.value


@final
@dataclass(frozen=True)
class Linear(Schedule):
    """From start to end in equal steps."""

    start: float
    end: float

    def _at(self, step: int, total_steps: int) -> float:
        return _mix(self.end, self.start, _progress(step, total_steps))


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """From start to end along half a cosine: slow, fast, slow."""

    start: float
    end: float

    def _at(self, step: int, total_steps: int) -> float:
        return _cosine(self.start, self.end, _progress(step, total_steps))


@final
@dataclass(frozen=True)
class Exponential(Schedule):
    """start · gamma^step, no lower than end."""

    start: float
    end: float
    gamma: float

    def __post_init__(self) -> None:
        _check_decay(self.start, self.end, self.gamma)

    def _at(self, step: int, total_steps: int) -> float:
        return max(self.end, self.start * self.gamma**step)


@final
@dataclass(frozen=True)
class Step(Schedule):
    """start times gamma after every `every` steps, no lower than end."""

    start: float
    end: float
    gamma: float
    every: int

    def __post_init__(self) -> None:
        _check_decay(self.start, self.end, self.gamma)
        _check_at_least("every", self.every, 1)

    def _at(self, step: int, total_steps: int) -> float:
        return max(self.end, self.start * self.gamma ** (step // self.every))


@final
@dataclass(frozen=True)
class WarmupCosine(Schedule):
    """From start to peak in `warmup` equal steps, then along half a cosine to end.

    A run no longer than the warm-up ends on the way up.
    """

    start: float
    peak: float
    end: float
    warmup: int

    def __post_init__(self) -> None:
        _check_at_least("warmup", self.warmup, 0)

    def _at(self, step: int, total_steps: int) -> float:
        if step < self.warmup:
            return _mix(self.peak, self.start, step / self.warmup)
        rest = _progress(step - self.warmup, total_steps - self.warmup)
        return _cosine(self.peak, self.end, rest)


@final
@dataclass(frozen=True)
class Cyclic(Schedule):
    """Half a cosine from start to end, `cycles` times; the last takes the steps left over."""

    start: float
    end: float
    cycles: int

    def __post_init__(self) -> None:
        _check_at_least("cycles", self.cycles, 1)

    def _at(self, step: int, total_steps: int) -> float:
        length = max(1, total_steps // self.cycles)
        cycle = min(step // length, self.cycles - 1)
        first = cycle * length
        last = total_steps if cycle == self.cycles - 1 else first + length
        return _cosine(self.start, self.end, _progress(step - first, last - first))


def _progress(step: int, total_steps: int) -> float:
    return step / max(1, total_steps - 1)


def _mix(a: float, b: float, share: float) -> float:
    """Return share · a + (1 - share) · b, exactly b at 0 and a at 1."""
    return share * a + (1 - share) * b


def _cosine(start: float, end: float, progress: float) -> float:
    return _mix(start, end, (1 + math.cos(math.pi * progress)) / 2)


def _check_decay(start: float, end: float, gamma: float) -> None:
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}, but a decay needs a factor in (0, 1], such as 0.95")
    if not 0 <= end <= start:
        raise ValueError(
            f"start is {start} and end is {end}, but a decay by a factor falls from start to an "
            "end of at least 0; use Linear or Cosine to rise"
        )


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}, but must be at least {least}")
