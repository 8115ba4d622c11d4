"""The lower part of a student held still while the rest learns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import Field

from stillhouse.errors import SpecError
from stillhouse.passes.distill.config import CamelConfig
from stillhouse.passes.models.network import Network

__all__ = ["Freeze", "frozen"]

_LAYER: Final = re.compile(r"(?:^|\.)(?:layer|layers|h|block|blocks)\.(\d+)\.")
_EMBEDDINGS: Final = re.compile(r"(?:^|\.)(?:embeddings|embed_tokens|wte|wpe)\.|^(?:tokens|pairs|positions|narrow)\.")
_FIELD: Final = "spec.distill.stages[].freeze"


class Freeze(CamelConfig):
    """What is held still: the embeddings, the lowest `layers` layers."""

    embeddings: bool = False
    layers: int = Field(default=0, ge=0)


@contextmanager
def frozen(network: Network, freeze: Freeze | None) -> Iterator[None]:
    """Hold the parameters still as long as the context lasts.

    Raises:
        SpecError: the network has not so many layers, shows none, or nothing is left that could learn.
    """
    if freeze is None:
        yield
        return
    if freeze.layers > network.layers or not (network.layers or network.token_vectors is not None):
        raise SpecError(
            "the student has not so many layers to freeze" if network.layers else "the student shows no layers to freeze",
            field=f"{_FIELD}.layers",
            found=str(freeze.layers),
            allowed=f"up to {network.layers}" if network.layers else "embeddings at most: such a network shows no layers",
            fix="freeze fewer layers" if network.layers else "leave layers out, or freeze",
        )
    held, layers = [], set[int]()
    for name, parameter in network.body.named_parameters():
        layer = _LAYER.search(name)
        chosen = int(layer[1]) < freeze.layers if layer else freeze.embeddings and _EMBEDDINGS.search(name) is not None
        if chosen and layer:
            layers.add(int(layer[1]))
        if chosen and parameter.requires_grad:
            held.append(parameter)
    if len(layers) < freeze.layers:
        raise SpecError(
            "the student's layers cannot be told apart",
            field=f"{_FIELD}.layers",
            found=f"{len(layers)} of the lowest {freeze.layers} layers have weights of their own",
            allowed="a network whose layers have weights of their own",
            fix="leave layers out",
        )
    if not held or len(held) == sum(parameter.requires_grad for parameter in network.parameters()):
        raise SpecError(
            "freeze leaves nothing that could learn" if held else "freeze finds nothing to hold still in this network",
            field=_FIELD,
            found=f"embeddings {str(freeze.embeddings).lower()}, layers {freeze.layers}",
            allowed="a part of the network",
            fix="freeze fewer layers" if held else "leave freeze out",
        )
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
