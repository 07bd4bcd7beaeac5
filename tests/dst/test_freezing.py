from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynadiag.dst.convert import convert_
from dynadiag.dst.freeze import freeze_
from dynadiag.dst.freezing import FreezeReport, LayerFreeze, freeze_report


def converted(method: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Dropout(0.5), nn.Linear(64, 32))
    convert_(model, sparsity=0.75, method=method)
    return model


@torch.no_grad()
def relative(after: Tensor, before: Tensor) -> float:
    return float((after - before).norm() / before.norm())


def test_a_hard_selection_loses_nothing() -> None:
    report = freeze_report(converted("dynadiag"), probe=torch.randn(4, 32))
    assert [(row.name, row.kept, row.units) for row in report.layers] == [
        ("0", 16, 64),
        ("2", 16, 64),
    ]
    assert all(row.soft_sum == 16 and row.overlap == 1 for row in report.layers)
    assert report.change is not None
    assert report.change < 1e-6


def test_an_unstructured_layer_counts_entries() -> None:
    (first, _) = freeze_report(converted("rigl")).layers
    assert (first.kept, first.units, first.soft_sum, first.overlap) == (512, 2048, 512, 1)


def test_a_soft_selection_loses_what_is_left_out() -> None:
    model = converted("dynadiag_paper")
    report = freeze_report(model)
    assert report.change is None
    # alpha are all equal, so each of the 64 diagonals weighs a quarter, and 16 of them stay
    for row in report.layers:
        assert row.soft_sum == pytest.approx(16)
        assert row.overlap == pytest.approx(0.25)


def test_the_change_is_that_of_freezing() -> None:
    model, probe = converted("dynadiag_paper").eval(), torch.randn(4, 32)
    change = freeze_report(model, probe=probe).change
    before = model(probe)
    after = freeze_(model)(probe)
    assert relative(after, before) > 0.01
    assert change == pytest.approx(relative(after, before), rel=1e-4)


class Named(nn.Module):
    """Takes two inputs and returns nested outputs, some of which are no numbers to compare."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 64)

    def forward(self, x: Tensor, shift: Tensor) -> dict[str, Any]:
        y = self.layer(x + shift)
        return {"logits": y, "more": (y.argmax(-1), [y * 2]), "none": None}


@pytest.mark.parametrize("named", [False, True])
def test_probes_of_several_inputs(named: bool) -> None:
    torch.manual_seed(0)
    model = convert_(Named(), sparsity=0.75, method="dynadiag_paper")
    x, shift = torch.randn(4, 32), torch.ones(32)
    probe: Any = {"x": x, "shift": shift} if named else (x, shift)
    report = freeze_report(model, probe=probe)
    before = model(x, shift)["logits"]
    after = freeze_(model)(x, shift)["logits"]
    assert report.change == pytest.approx(relative(after, before), rel=1e-4)


def test_the_model_is_left_as_it_is() -> None:
    model = converted("dynadiag_paper")
    modules, state = list(model.modules()), model.state_dict()
    freeze_report(model, probe=torch.randn(4, 32))
    with pytest.raises(ValueError, match="must be in_features = 32"):
        freeze_report(model, probe=torch.randn(4, 31))
    assert list(model.modules()) == modules
    assert all(module.training for module in modules)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_dense_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no sparse layer to freeze"):
        freeze_report(nn.Sequential(nn.Linear(2, 2)))


def test_a_report_prints_as_a_table() -> None:
    row = LayerFreeze("body.0", kept=16, units=64, soft_sum=15.5, overlap=0.25)
    assert str(FreezeReport((row,), 0.125)).splitlines() == [
        "layer   kept  of  soft sum  overlap",
        "body.0  16    64  15.5      25.00%",
        "relative change of the output on the probe: 0.125",
    ]
