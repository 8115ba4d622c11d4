"""Layers made narrower: outputs and inputs taken out of linear layers, convolutions and batch norms, in place.

`architecture.json` keeps the sizes of every layer that was: a network that is built anew, by its configuration or by a factory,
is brought to them before its weights are put in.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["NARROWED", "narrow", "resize", "sizes_of"]

NARROWED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers with a weight [outputs, inputs, …]."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def narrow(module: nn.Module, outputs: Tensor | None = None, inputs: Tensor | None = None) -> None:
    """Keep of a layer only these outputs and inputs, int64 indices each; None keeps all.

    Raises:
        TypeError: a layer of another kind.
    """
    if isinstance(module, _NORMS):
        for name in ("weight", "bias", "running_mean", "running_var"):
            _cut(module, name, 0, outputs)
        module.num_features = module.num_features if outputs is None else len(outputs)
        return
    if not isinstance(module, NARROWED):
        raise TypeError(f"{type(module).__name__} cannot be made narrower")
    _cut(module, "weight", 0, outputs)
    _cut(module, "bias", 0, outputs)
    _cut(module, "weight", 1, inputs)
    rows, columns = sizes_of(module)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = rows, columns
    else:
        module.out_channels, module.in_channels = rows, columns


def sizes_of(module: nn.Module) -> tuple[int, int]:
    """Return how many outputs and inputs a layer has; a norm's inputs are 0."""
    if isinstance(module, _NORMS):
        return int(module.num_features), 0
    assert isinstance(module, NARROWED)
    return int(module.weight.shape[0]), int(module.weight.shape[1])


def resize(body: nn.Module, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Bring layers to these sizes, by their path in `body`. What their weights are then is of no account.

    Raises:
        AttributeError: there is no such layer.
        TypeError: it is of a kind that cannot be made narrower, or is narrower already.
    """
    for path, (outputs, inputs) in sizes.items():
        module = body.get_submodule(path)
        if isinstance(module, (*NARROWED, *_NORMS)):
            rows, columns = sizes_of(module)
            if rows < outputs or columns < inputs:
                raise TypeError(f"{path} has {rows} outputs and {columns} inputs, fewer than {outputs} and {inputs}")
        narrow(module, torch.arange(outputs), torch.arange(inputs))


def _cut(module: nn.Module, name: str, axis: int, index: Tensor | None) -> None:
    value = getattr(module, name, None)
    if value is None or index is None:
        return
    kept = value.detach().index_select(axis, index).clone()
    if isinstance(value, nn.Parameter):
        kept = nn.Parameter(kept, requires_grad=value.requires_grad)
    setattr(module, name, kept)
