from __future__ import annotations

import torch
from torch.nn import functional as F

from dynadiag.models import MLP, MLPConfig


def test_it_is_linear_layers_with_relu_between() -> None:
    torch.manual_seed(0)
    model = MLP(MLPConfig(inputs=6, hidden=(5,), classes=3))
    images = torch.randn(2, 1, 2, 3)
    expected = model.head(F.relu(model.layers[0](images.view(2, 6))))
    torch.testing.assert_close(model(images), expected)
