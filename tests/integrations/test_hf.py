from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadiag.dst.convert import convert_
from dynadiag.dst.groups import param_groups
from dynadiag.dst.layers import dynamic_layers
from dynadiag.nn import DiagonalLinear

from ..torchvision_names import import_torchvision

import_torchvision()
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

STEPS, RESUMED = 8, 5


class Classifier(nn.Module):
    """What a Trainer asks of a model: named inputs in, a mapping with the loss out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.head(self.body(x))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def converted() -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier()
    convert_(classifier, sparsity=0.75, exclude="head", drop=0.5, every=2, learn_alpha=True)
    return classifier


def trainer(classifier: Classifier, out: Path, **callback: Any) -> Any:
    from dynadiag.integrations.hf import DynaDiagCallback

    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
    data = [{"x": row, "labels": row[:4].argmax()} for row in x]
    args = transformers.TrainingArguments(
        output_dir=str(out),
        max_steps=STEPS,
        save_steps=RESUMED,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    optimizer = torch.optim.AdamW(param_groups(classifier, weight_decay=0.1), lr=1e-2)
    return transformers.Trainer(
        classifier,
        args,
        train_dataset=data,
        optimizers=(optimizer, None),
        callbacks=[DynaDiagCallback(**callback)],
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("trained")
    whole = trainer(converted(), out, seed=3)
    whole.train()
    return whole, out / f"checkpoint-{RESUMED}"


def scheduler(done: Any) -> Any:
    from dynadiag.integrations.hf import DynaDiagCallback

    (callback,) = (c for c in done.callback_handler.callbacks if isinstance(c, DynaDiagCallback))
    return callback.scheduler


def test_the_topology_moves_with_the_optimizer_steps(trained: tuple[Any, Path]) -> None:
    done, _ = trained
    assert scheduler(done).last_step == STEPS
    before, after = dynamic_layers(converted()), dynamic_layers(done.model)
    assert list(after) == list(before) == ["body.0", "body.2"]
    for name, layer in after.items():
        assert layer.kept == before[name].kept
        assert not torch.equal(layer.active(), before[name].active())


def test_alpha_is_not_decayed(trained: tuple[Any, Path]) -> None:
    done, _ = trained
    alphas = {p for name, p in done.model.named_parameters() if name.endswith("alpha")}
    assert len(alphas) == 2
    decays = {
        p: group["weight_decay"] for group in done.optimizer.param_groups for p in group["params"]
    }
    assert {decays[alpha] for alpha in alphas} == {0.0}
    assert decays[done.model.head.weight] == 0.1


def test_a_resumed_training_ends_as_the_whole_one(
    trained: tuple[Any, Path], tmp_path: Path
) -> None:
    done, checkpoint = trained
    resumed = trainer(converted(), tmp_path)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert scheduler(resumed).last_step == STEPS
    assert scheduler(resumed).seed == 3
    theirs = done.model.state_dict()
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_second_training_starts_anew(tmp_path: Path) -> None:
    again = trainer(converted(), tmp_path)
    again.args.max_steps = 2
    for _ in range(2):
        again.train()
        assert scheduler(again).last_step == 2


def test_the_model_is_frozen_at_the_end(tmp_path: Path) -> None:
    short = trainer(converted(), tmp_path, freeze=True)
    short.args.max_steps = 1
    short.train()
    assert all(isinstance(layer, DiagonalLinear) for layer in short.model.body[::2])


def test_a_checkpoint_without_the_callback_is_refused(
    trained: tuple[Any, Path], tmp_path: Path
) -> None:
    _, checkpoint = trained
    other = trainer(converted(), tmp_path)
    state = transformers.TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    del state.stateful_callbacks["DynaDiagCallback"]
    other.state = state
    with pytest.raises(ValueError, match=r"made without DynaDiagCallback.*from the beginning"):
        other.callback_handler.on_train_begin(other.args, state, other.control)
