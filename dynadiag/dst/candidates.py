"""The linear layers of a model: which of them can become sparse, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_OF_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Candidate:
    """A dense linear map of a model.

    Attributes:
        name: dotted path in the model.
        out_features: size of the last dimension of y.
        in_features: size of the last dimension of x.
        refusal: why it cannot be converted, or None.
        aliases: other paths to the same module.
    """

    name: str
    out_features: int
    in_features: int
    refusal: str | None
    aliases: tuple[str, ...] = ()


def candidates(model: nn.Module) -> list[Candidate]:
    """Return the linear maps of a model in the order of its modules.

    These are `nn.Linear` and its subclasses, the `Conv1D` of transformers, whose weight is
    (in_features, out_features), and the projections that `nn.MultiheadAttention` keeps as
    parameters of its own.
    """
    places = _places(model)
    paths: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(name)
    found: list[Candidate] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            found += _projections(name, module)
        elif isinstance(module, nn.Linear) or _is_conv1d(module):
            refusal = _refusal(name, module, places)
            found.append(Candidate(name, *_shape(module), refusal, tuple(paths[module][1:])))
    return found


def as_linear(module: nn.Module, start: int = 0, stop: int | None = None) -> nn.Linear:
    """Return outputs start to stop of a convertible layer as a dense layer sharing its memory.

    Args:
        module: an `nn.Linear`, or a `Conv1D` of transformers.
        start: first output feature.
        stop: one past the last; None for all.
    """
    weight, bias = module.get_parameter("weight"), getattr(module, "bias", None)
    rows = weight.detach().t()[start:stop] if _is_conv1d(module) else weight.detach()[start:stop]
    linear = nn.Linear(rows.shape[1], rows.shape[0], bias is not None, device="meta")
    linear.weight = nn.Parameter(rows, weight.requires_grad)
    if isinstance(bias, Tensor):
        linear.bias = nn.Parameter(bias.detach()[start:stop], bias.requires_grad)
    return linear.train(module.training)


def _is_conv1d(module: nn.Module) -> bool:
    """Known by its name and shape, so that transformers need not be imported."""
    weight = module._parameters.get("weight")
    return type(module).__name__ == "Conv1D" and weight is not None and weight.ndim == 2


def _shape(module: nn.Module) -> tuple[int, int]:
    """(out_features, in_features)."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    in_features, out_features = module.get_parameter("weight").shape
    return out_features, in_features


def _places(model: nn.Module) -> dict[int, list[str]]:
    """The names under which modules hold each parameter, by its id."""
    places: dict[int, list[str]] = {}
    for name, parameter in _own_parameters(model):
        places.setdefault(id(parameter), []).append(name)
    return places


def _own_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in model.named_modules():
        yield from module.named_parameters(name, recurse=False, remove_duplicate=False)


def _refusal(name: str, module: nn.Module, places: dict[int, list[str]]) -> str | None:
    if not name:
        return "it is the model itself, which cannot be replaced in place: wrap it in nn.Sequential"
    if isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward:
        return f"{type(module).__name__} has a forward of its own"
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed, not a parameter"
    if is_lazy(weight):
        return "its sizes are not known before the model has run once"
    for own, parameter in module.named_parameters(name, recurse=False):
        others = [place for place in places[id(parameter)] if place != own]
        if others:
            return f"its {own.rpartition('.')[2]} is tied to {others[0]}"
    return None


def _projections(name: str, attention: nn.MultiheadAttention) -> Iterator[Candidate]:
    for own in _OF_ATTENTION:
        weight = attention._parameters.get(own)
        if weight is not None:
            path = f"{name}.{own}" if name else own
            refusal = "it is a parameter of nn.MultiheadAttention, not a layer"
            yield Candidate(path, weight.shape[0], weight.shape[1], refusal)
