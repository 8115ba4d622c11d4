"""A network's pooled features: what its last linear layer, the head, is given.

Every kind of network has them that ends in one, whatever it is made of: a convolutional network's averages over pixels or tokens
(global average pooling), a transformer's pooled text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.passes.models.network import Network

__all__ = ["Features", "features", "width_of"]


class Features:
    """Keeps the features of the last forward: float [batch, width]."""

    def __init__(self, network: Network, field: str) -> None:
        """Begin to keep; `field` is what asked for them."""
        self._field = field
        self._found: Tensor | None = None
        heads = [
            module
            for module in network.modules()
            if isinstance(module, nn.Linear) and module.out_features == network.signature.dimension
        ]
        self._handles = [head.register_forward_hook(self._keep) for head in heads]

    def take(self) -> Tensor:
        """Return them.

        Raises:
            SpecError: the network ends in no linear layer over one vector a row.
        """
        if self._found is None:
            raise SpecError(
                "the network ends in no linear layer whose input could be compared",
                field=self._field,
                found="no linear layer from one vector a row to the outputs",
                allowed="a network with such a head",
                fix="take loss embedding or logits, which compare the outputs themselves",
            )
        found, self._found = self._found, None
        return found

    def close(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, _module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        # The last one stays: inside a transformer there may be layers of the same width, but of a vector for every token.
        if inputs[0].dim() == 2:
            self._found = inputs[0]


@contextmanager
def features(network: Network, field: str) -> Iterator[Features]:
    """Keep the features of forwards as long as the context lasts."""
    kept = Features(network, field)
    try:
        yield kept
    finally:
        kept.close()


def width_of(network: Network, inputs: tuple[Tensor, ...], field: str) -> int:
    """Return how wide the features are, from a forward of some rows.

    Raises:
        SpecError: there are none.
    """
    with features(network, field) as kept, torch.no_grad():
        network(*inputs)
        return int(kept.take().shape[1])
