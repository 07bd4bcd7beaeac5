"""Sparse training inside the Trainer of transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ..dst.freeze import freeze_
from ..dst.scheduler import Scheduler


class DynaDiagCallback(TrainerCallback, ExportableState):
    """Moves the topology of a converted model along with the steps of a Trainer.

    Convert the model before the Trainer is made. Its own optimizer would decay alpha, so give it
    one:

        optimizer = torch.optim.AdamW(param_groups(model, weight_decay=0.01), lr=1e-3)
        Trainer(model, args, optimizers=(optimizer, None), callbacks=[DynaDiagCallback()])

    Checkpoints of the Trainer hold what the callback needs to go on from them.

    Args:
        seed: of the random topologies.
        freeze: whether to freeze the model when training ends; `trainer.optimizer` then holds
            parameters that the model has no more.

    Attributes:
        scheduler: drives the topology; None before the first training begins.
    """

    def __init__(self, seed: int = 0, freeze: bool = False) -> None:
        self.seed = seed
        self.freeze = freeze
        self.scheduler: Scheduler | None = None

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Attach a Scheduler to the optimizer, and go on from a checkpoint if there is one.

        Raises:
            ValueError: the checkpoint was made without this callback, or as `Scheduler` raises.
        """
        if self.scheduler is not None:  # of a training that was interrupted
            self.scheduler.detach()
        # The wrapper that accelerate puts around an optimizer has no hooks of its own.
        optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])
        self.scheduler = Scheduler(
            kwargs["model"], optimizer, total_steps=state.max_steps, seed=self.seed
        )
        if state.global_step > 0:
            self.scheduler.load_state_dict(_saved(state))
        self.scheduler.attach()

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Leave the optimizer alone, and freeze the model if asked to."""
        if self.scheduler is not None:
            self.scheduler.detach()
        if self.freeze:
            freeze_(kwargs["model"])

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what a checkpoint of the Trainer keeps of the callback."""
        saved = None if self.scheduler is None else self.scheduler.state_dict()
        return {
            "args": {"seed": self.seed, "freeze": self.freeze},
            "attributes": {"saved": saved},
        }


def _saved(state: TrainerState) -> dict[str, Any]:
    callbacks: Any = state.stateful_callbacks
    if DynaDiagCallback.__name__ not in callbacks:
        raise ValueError(
            "the checkpoint was made without DynaDiagCallback, so the progress of the topology is "
            "not known; train from the beginning, or from a checkpoint that has it"
        )
    saved: dict[str, Any] = callbacks[DynaDiagCallback.__name__]["attributes"]["saved"]
    return saved
