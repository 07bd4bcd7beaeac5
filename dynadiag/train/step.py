"""One optimizer step, whatever is trained."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from dynadiag.data import Batch
from dynadiag.dst.schedules import WarmupCosine
from dynadiag.train.build import Parts
from dynadiag.train.ranks import Ranks
from dynadiag.train.run import Run


@final
class Stepper:
    """Takes optimizer steps as a recipe says.

    What a step draws at random, such as dropout, follows from the seed, the step and the rank, so
    that a run resumes without any state of a generator.
    """

    def __init__(self, run: Run, parts: Parts, ranks: Ranks) -> None:
        recipe = run.recipe
        if recipe.batch % (recipe.accumulate * ranks.count):
            raise ValueError(
                f"a batch of {recipe.batch} is not divisible into {recipe.accumulate} parts "
                f"on each of {ranks.count} processes; change batch or accumulate"
            )
        self._recipe, self._seed, self._ranks = recipe, run.seed, ranks
        self._model = ranks.wrap(parts.model)
        self._optimizer, self._scheduler = parts.optimizer, parts.scheduler
        self._parameters = list(parts.model.parameters())
        start = recipe.lr / (recipe.warmup + 1)
        self._rate = WarmupCosine(start, recipe.lr, recipe.final_lr, recipe.warmup)
        self._scaler = torch.amp.GradScaler(
            ranks.device.type, enabled=recipe.precision == "float16"
        )

    def cast(self) -> AbstractContextManager[object]:
        """Return the autocast context of a forward pass."""
        if self._recipe.precision == "float32":
            return nullcontext()
        dtype = getattr(torch, self._recipe.precision)
        return torch.autocast(self._ranks.device.type, dtype)

    def take(self, step: int, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Take a step; return the loss (), on the device, and the logits of each micro-batch.

        Args:
            step: its number, from 0.
            batch: this process's share of the examples.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(step, self._recipe.steps)
        self._ranks.reseed(self._seed, step)
        loss, logits = self._gradients(batch)
        if self._recipe.clip is not None:
            self._scaler.unscale_(self._optimizer)
            clip_grad_norm_(self._parameters, self._recipe.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._scheduler is not None:
            self._scheduler.step()
        self._optimizer.zero_grad()
        return loss, logits

    def _gradients(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Leave the gradients of the mean loss of all micro-batches in the parameters."""
        parts = self._recipe.accumulate
        device = self._ranks.device
        total, answers = torch.zeros((), device=device), []
        pairs = zip(*(each.to(device).chunk(parts) for each in batch), strict=True)
        for number, (inputs, targets) in enumerate(pairs, 1):
            with self._synchronised(number == parts):
                with self.cast():
                    logits = self._model(inputs)
                loss = F.cross_entropy(
                    logits.float().flatten(0, -2),
                    targets.flatten(),
                    label_smoothing=self._recipe.smoothing,
                )
                loss = loss / parts
                self._scaler.scale(loss).backward()
            total += loss.detach()
            answers.append(logits.detach())
        return total, answers

    def _synchronised(self, last: bool) -> AbstractContextManager[object]:
        """Return a context in which processes exchange gradients only for the last micro-batch."""
        if last or not isinstance(self._model, DistributedDataParallel):
            return nullcontext()
        return self._model.no_sync()

    def state_dict(self) -> dict[str, Any]:
        """Return what a step starts from beside the model, for a checkpoint."""
        scheduler = {} if self._scheduler is None else self._scheduler.state_dict()
        return {
            "optimizer": self._optimizer.state_dict(),
            "scheduler": scheduler,
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
