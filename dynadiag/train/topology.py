"""How the topology of a model moves during a run, looked at now and then."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dynadiag.dst.layers import dynamic_layers


@final
class Observer:
    """Compares the topology of every dynamic layer with the last look at it.

    Args:
        model: with dynamic layers or without.
        traced: name of a layer of which every look is kept, or None.

    Raises:
        ValueError: if the model has no such layer.
    """

    def __init__(self, model: nn.Module, traced: str | None) -> None:
        self._model = model
        self._traced = traced
        layers = dynamic_layers(model)
        if traced is not None and traced not in layers:
            raise ValueError(f"no layer {traced!r} to trace; choose from {', '.join(layers)}")
        # Written down here, as freezing replaces the layer.
        self._about: dict[str, str | int] = {}
        if traced is not None:
            layer = layers[traced]
            self._about = {
                "layer": traced,
                "out_features": layer.out_features,
                "in_features": layer.in_features,
            }
        self._last = {name: layer.active().cpu() for name, layer in layers.items()}
        self._steps: list[int] = []
        self._trace: dict[str, list[Tensor]] = {"active": [], "alpha": []}

    def look(self, step: int) -> dict[str, dict[str, float]]:
        """Return for each layer the units `kept`, those `changed` since, and their `overlap`.

        Args:
            step: the optimizer steps taken.

        Returns:
            By layer; the overlap is the share of the units active before that still are.
        """
        seen = {}
        for name, layer in dynamic_layers(self._model).items():
            before, now = self._last[name], layer.active().cpu()
            seen[name] = {
                "kept": int(now.sum()),
                "changed": int((before ^ now).sum()),
                "overlap": float((before & now).sum() / before.sum()),
            }
            self._last[name] = now
            if name == self._traced:
                self._keep(step, now, getattr(layer, "alpha", None))
        return seen

    def _keep(self, step: int, active: Tensor, alpha: Tensor | None) -> None:
        self._steps.append(step)
        self._trace["active"].append(active)
        if alpha is not None:
            self._trace["alpha"].append(alpha.detach().float().cpu().clone())

    def arrays(self) -> dict[str, NDArray[Any]] | None:
        """Return `step`, `active` and, for diagonals, `alpha` of the traced layer, a row a look.

        With them go `layer`, its name, and its `out_features` and `in_features`.
        """
        if not self._steps:
            return None
        about = {name: np.array(value) for name, value in self._about.items()}
        rows = {name: torch.stack(kept).numpy() for name, kept in self._trace.items() if kept}
        return {**about, "step": np.array(self._steps), **rows}

    def state_dict(self) -> dict[str, Any]:
        """Return what was seen, for a checkpoint."""
        return {"last": self._last, "steps": self._steps, "trace": self._trace}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint has seen."""
        self._last, self._steps, self._trace = state["last"], state["steps"], state["trace"]
