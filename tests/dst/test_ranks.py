from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from dynadiag.dst.layers import dynamic_layers
from dynadiag.dst.ranks import check_ranks

from .trainings import make_model


def test_one_process_is_never_wrong() -> None:
    check_ranks(make_model())


@pytest.mark.parametrize("other", ["2", "0"])
def test_the_layer_that_differs_is_named(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    def gather(every: list[dict[str, str]], own: dict[str, str]) -> None:
        every[:] = [own, own, own | {other: "something else"}]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    with pytest.raises(RuntimeError, match=rf"topology of {other} on ranks \[2\] differs .* seed"):
        check_ranks(make_model())


def test_what_is_compared_is_the_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, str]] = []

    def gather(every: list[dict[str, str]], own: dict[str, str]) -> None:
        sent.append(own)
        every[:] = [own]

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    model = make_model()
    check_ranks(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    check_ranks(model)
    layer = dynamic_layers(model)["2"]
    layer.set_active(layer.active().flip(0))
    check_ranks(model)
    assert sent[0] == sent[1]
    assert [name for name in sent[0] if sent[0][name] != sent[2][name]] == ["2"]
