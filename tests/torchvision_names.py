"""torchvision for those that import it, where its binary does not fit this torch."""

from __future__ import annotations

import importlib

import torch


def import_torchvision() -> None:
    """Import torchvision if it is installed; a broken binary lacks two names, which are given it.

    The only builds of some registries are for CUDA, and do not load beside a CPU build of torch.
    """
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
