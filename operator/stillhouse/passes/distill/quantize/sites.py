"""Where INT8 rounds: the layers whose input and weights it rounds, and the tables whose rows it looks up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from stillhouse.passes.compress.ranges import UINT8_STEPS
from stillhouse.passes.models.network import Network

__all__ = ["Site", "apply_layer", "behind_norms", "rounded_table", "rounded_weights", "sites_of"]

_LAYERS: Final = (nn.Linear, nn.Conv1d, nn.Conv2d)
_TABLE: Final = 1024
"""Numbers of a table that is worth it, and more than one a row: as `passes/compress/quantize.py` has it."""
_TINY: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Site:
    """A module and what it is called in the network; `tensor`: what its weights are called in the artifact."""

    name: str
    tensor: str
    module: nn.Module

    @property
    def is_table(self) -> bool:
        """Say whether rows of it are looked up."""
        return isinstance(self.module, nn.Embedding)


def sites_of(network: Network) -> list[Site]:
    """Return every layer and table that INT8 may round; a network may have some that it never asks."""
    found = []
    for name, module in network.named_modules():
        table = isinstance(module, nn.Embedding) and module.weight.numel() >= _TABLE and module.embedding_dim > 1
        if table or isinstance(module, _LAYERS):
            part, _, rest = name.partition(".")
            owner = rest if part == "body" else network.architecture.head
            found.append(Site(name, f"{owner}.weight", module))
    return found


def behind_norms(network: Network, sites: Mapping[str, Site], row: tuple[Tensor, ...]) -> dict[str, list[str]]:
    """Return norm → the linear layers that read what it gives and nothing else, by running one row."""
    given: dict[int, tuple[str, Tensor]] = {}  # holding the tensors keeps their numbers from being given out again
    read: dict[str, list[str]] = {}
    handles: list[Any] = []

    def gives(name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            given[id(output)] = (name, output)

        return keep

    def reads(name: str) -> Any:
        def look(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            norm = given.get(id(inputs[0]))
            read.setdefault(name, []).append("" if norm is None else norm[0])

        return look

    for name, module in network.named_modules():
        if isinstance(module, nn.LayerNorm):
            handles.append(module.register_forward_hook(gives(name)))
    for name, site in sites.items():
        if isinstance(site.module, nn.Linear):
            handles.append(site.module.register_forward_pre_hook(reads(name)))
    try:
        with torch.no_grad():
            network(*row)
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, list[str]] = {}
    for name, norms in read.items():
        if len(norms) == 1 and norms[0]:
            found.setdefault(norms[0], []).append(name)
    return found


def rounded_weights(weight: Tensor, most: int) -> Tensor:
    """Return weights [outputs, …] as INT8 has them: a scale for each output, from its largest; `most` is 127, of 7 bits 63."""
    peaks = weight.detach().abs().flatten(1).amax(1).clamp(min=_TINY)
    zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, peaks / most, zeros, 0, -most, most)


def rounded_table(rows: Tensor, table: Tensor) -> Tensor:
    """Return rows of a table as INT8 has them: one scale for the whole table."""
    low, high = (each.float() for each in table.detach().aminmax())
    scale = ((high.clamp(min=0.0) - low.clamp(max=0.0)) / UINT8_STEPS).clamp(min=_TINY)
    zero = (-low.clamp(max=0.0) / scale).round().clamp(0, UINT8_STEPS).to(torch.int32)
    return torch.fake_quantize_per_tensor_affine(rows, scale, zero, 0, UINT8_STEPS)


def apply_layer(module: nn.Module, given: Tensor, weight: Tensor) -> Tensor:
    """Return what a layer gives with other weights than its own."""
    if isinstance(module, nn.Linear):
        return nn.functional.linear(given, weight, module.bias)
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    return module._conv_forward(given, weight, module.bias)
