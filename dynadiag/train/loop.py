"""Executing a run: from its first step, or from its last checkpoint, to its result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, final

import torch

from dynadiag.data import Batch, Split, loader
from dynadiag.dst.checkpoint import save
from dynadiag.dst.freeze import freeze_
from dynadiag.dst.freezing import freeze_report
from dynadiag.train.build import build
from dynadiag.train.diet import Diet
from dynadiag.train.evaluate import Examples, examine, judge
from dynadiag.train.folder import EXAMPLES, MODEL, TRACE, Result, RunFolder
from dynadiag.train.interrupt import Interrupt
from dynadiag.train.place import Place
from dynadiag.train.progress import Progress
from dynadiag.train.ranks import Ranks, joined
from dynadiag.train.run import Run
from dynadiag.train.step import Stepper
from dynadiag.train.topology import Observer

# At least so many looks at the topology a run, beside one after every update of the method.
LOOKS = 20
# A relative change of the output by freezing that is rounding, and examples it is measured on.
UNCHANGED, PROBE = 1e-4, 16


def execute(run: Run, place: Place) -> Result:
    """Execute a run in its folder, unless it is finished there; an interrupted one goes on.

    Started by torchrun, its processes share every batch, and the first of them writes.

    Args:
        run: what is trained.
        place: where.

    Raises:
        TrainError: if its folder holds another run.
        ValueError: if a name, an option or the sparsity is impossible.
        KeyboardInterrupt: on SIGINT or SIGTERM, once the run is saved.
    """
    folder = RunFolder(place.root, run)
    folder.claim()
    done = folder.result()
    if done is not None:
        return done
    with joined(place.device) as ranks:
        training = _Training(run, place, folder, ranks)
        training.restore()
        training.train()
        return training.finish()


@final
class _Training:
    """A run under way."""

    def __init__(self, run: Run, place: Place, folder: RunFolder, ranks: Ranks) -> None:
        self._run, self._place, self._folder, self._ranks = run, place, folder, ranks
        self._parts = build(run, place.data, ranks.device)
        self._stepper = Stepper(run, self._parts, ranks)
        self._diet = Diet(self._parts.dataset.train, run, self._parts.method)
        self._observer = Observer(self._parts.model, run.trace)
        self._step = 0
        self._seconds = 0.0
        # Losses since they were last reported: their sum, and how many.
        self._loss, self._count = torch.zeros((), device=ranks.device), 0

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        state = self._folder.restore()
        if state is None:
            return
        self._parts.model.load_state_dict(state["model"])
        self._stepper.load_state_dict(state["stepper"])
        self._diet.load_state_dict(state["diet"])
        self._observer.load_state_dict(state["observer"])
        self._step, self._seconds = state["step"], state["seconds"]
        self._loss, self._count = state["loss"].to(self._ranks.device), state["count"]

    def _save(self) -> None:
        state = {
            "model": self._parts.model.state_dict(),
            "stepper": self._stepper.state_dict(),
            "diet": self._diet.state_dict(),
            "observer": self._observer.state_dict(),
            "step": self._step,
            "seconds": self._seconds,
            "loss": self._loss,
            "count": self._count,
        }
        self._folder.save(state)

    def train(self) -> None:
        """Take the steps that are left."""
        total, first = self._run.recipe.steps, self._ranks.first
        saved = time.monotonic()
        with (
            Interrupt() as interrupt,
            Progress(total, "steps", start=self._step, quiet=not first) as progress,
        ):
            for batch in self._batches():
                self._advance(batch, progress)
                progress.step()
                due = time.monotonic() - saved >= self._place.save_every
                if first and (due or interrupt.wanted):
                    self._save()
                    saved = time.monotonic()
                    if interrupt.wanted:
                        raise KeyboardInterrupt

    def _batches(self) -> Iterator[Batch]:
        run, ranks = self._run, self._ranks
        for split, steps in self._diet.courses(self._step, run.recipe.steps):
            yield from loader(
                split,
                steps,
                seed=run.seed,
                size=run.recipe.batch,
                rank=ranks.rank,
                ranks=ranks.count,
                workers=self._place.loaders,
            )

    def _advance(self, batch: Batch, progress: Progress) -> None:
        """Take one step, and write what there is to say after it."""
        start = time.perf_counter()
        step = self._step
        loss, logits = self._stepper.take(step, batch)
        self._loss += loss
        self._count += 1
        self._step += 1
        if self._diet.counts(step):
            _, correct = judge(torch.cat(logits), batch[1].to(self._ranks.device))
            right = self._ranks.gather((correct > 0.5).float().cpu(), self._run.recipe.batch)
            self._diet.record(step, right.bool())
        self._seconds += time.perf_counter() - start
        self._report(step, progress)

    def _report(self, step: int, progress: Progress) -> None:
        """Write how the topology and the losses are, where it is due."""
        line: dict[str, Any] = {}
        if self._looks(step):
            line["topology"] = self._observer.look(self._step)
        if self._step % self._run.recipe.evaluate == 0 and self._step < self._run.recipe.steps:
            line |= self._losses(self._examine(self._parts.dataset.validation))
            progress.tell(f"step {self._step}: {_news(line)}")
        self._log(line)

    def _looks(self, step: int) -> bool:
        total, method = self._run.recipe.steps, self._parts.method
        if self._parts.scheduler is None or method is None:
            return False
        return method.updates(step, total) or step % max(1, total // LOOKS) == 0

    def _losses(self, validation: Examples) -> dict[str, Any]:
        mean = float(self._loss) / max(1, self._count)
        self._loss, self._count = torch.zeros_like(self._loss), 0
        return {"loss": mean, "validation": validation.means(), "seconds": self._seconds}

    def _log(self, line: dict[str, Any]) -> None:
        if line and self._ranks.first:
            self._folder.log({"step": self._step, **line})

    def _examine(self, split: Split) -> Examples:
        recipe = self._run.recipe
        return examine(
            self._parts.model,
            split,
            size=recipe.batch // recipe.accumulate,
            ranks=self._ranks,
            cast=self._stepper.cast,
        )

    def finish(self) -> Result:
        """Freeze the model, examine it, and write the result."""
        parts = self._parts
        change, trained = 0.0, None
        if parts.scheduler is not None:
            change = self._freezing_change()
            if change > UNCHANGED:
                trained = self._examine(parts.dataset.test)
            freeze_(parts.model)
        test = self._examine(parts.dataset.test)
        validation = self._examine(parts.dataset.validation)
        self._log(self._losses(validation))
        # All processes take part where parameters are sharded; the first one writes.
        save(parts.model, self._folder.path / MODEL)
        result = Result(
            folder=self._folder.path,
            steps=self._step,
            seconds=self._seconds,
            sparsity=parts.sparsity,
            validation=validation.means(),
            test=test.means(),
            trained=(trained or test).means(),
            change=change,
        )
        if self._ranks.first:
            self._folder.save_arrays(EXAMPLES, {"loss": test.loss, "correct": test.correct})
            trace = self._observer.arrays()
            if trace is not None:
                self._folder.save_arrays(TRACE, trace)
            self._folder.finish(result)
        return result

    def _freezing_change(self) -> float:
        validation = self._parts.dataset.validation
        inputs, _ = validation.take(torch.arange(min(PROBE, len(validation))))
        report = freeze_report(self._parts.model, probe=inputs.to(self._ranks.device))
        assert report.change is not None
        return report.change


def _news(line: dict[str, Any]) -> str:
    validation = line["validation"]
    return (
        f"loss {line['loss']:.4g}, validation loss {validation['loss']:.4g}, "
        f"accuracy {validation['accuracy']:.4f}"
    )
