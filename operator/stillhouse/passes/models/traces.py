"""What goes on inside a network during a forward, position by position: states of layers, queries, keys and values.

Read by hooks, so that a network computes nothing more than it does anyway and keeps the fast attention. Nothing is left in the
network once `close` has been called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.passes.models.network import Network

__all__ = ["PROJECTIONS", "TOGETHER", "Traces", "layers_of"]

_LAYER: Final = re.compile(r"(?P<list>(?:.*\.)?(?:layer|layers|h|block|blocks))\.(?P<number>\d+)")
# The projections of attention, by the names that Hugging Face's encoders use.
PROJECTIONS: Final = {
    "query": re.compile(r"(?:.*\.)?(?:query|query_proj|q_lin|q_proj|q)"),
    "key": re.compile(r"(?:.*\.)?(?:key|key_proj|k_lin|k_proj|k)"),
    "value": re.compile(r"(?:.*\.)?(?:value|value_proj|v_lin|v_proj|v)"),
}
TOGETHER: Final = ("query_key_value", "Wqkv")


class Traces:
    """Keeps what is `wanted` of every forward until it is taken: (`state`, `query`, `key` or `value`; layer from 1) each."""

    def __init__(self, network: Network, wanted: Iterable[tuple[str, int]], field: str) -> None:
        """Begin to keep.

        Raises:
            SpecError: it has no such layer, or one without such a projection; `field` is what asked for it.
        """
        self._found: dict[str, Tensor] = {}
        self._handles: list[Any] = []
        layers = layers_of(network)
        try:
            for what, number in sorted(set(wanted)):
                if not 1 <= number <= len(layers):
                    raise SpecError(
                        "a loss looks into a layer that the network does not show",
                        field=field,
                        found=f"layer {number}",
                        allowed=f"1 to {len(layers)}" if layers else "none: the network shows no layers",
                        fix="choose a layer that the network has, or another loss",
                    )
                self._hook(layers[number - 1], what, number, field)
        except BaseException:
            self.close()
            raise

    def take(self) -> dict[str, Tensor]:
        """Return what the forward since the last call left, `state-3` and so on: float [batch, positions, width] each."""
        found, self._found = self._found, {}
        return found

    def close(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, layer: nn.Module, what: str, number: int, field: str) -> None:
        name, module, part = f"{what}-{number}", layer, -1
        if what != "state":
            inner = dict(layer.named_modules())
            single = [each for path, each in inner.items() if PROJECTIONS[what].fullmatch(path) and isinstance(each, nn.Linear)]
            together = [each for path, each in inner.items() if path.rpartition(".")[2] in TOGETHER]
            if len(single) != 1 and len(together) != 1:
                raise SpecError(
                    f"layer {number} shows no {what} projection",
                    field=field,
                    found=type(layer).__name__,
                    allowed="self-attention with a projection each for queries, keys and values",
                    fix="take another loss: hidden, hidden-tokens or attention-transfer",
                )
            module = single[0] if len(single) == 1 else together[0]
            part = -1 if len(single) == 1 else list(PROJECTIONS).index(what)

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            if value.dim() == 4:  # an image's channels: [batch, channels, height, width]
                value = value.flatten(2).transpose(1, 2)
            self._found[name] = value if part < 0 else value.chunk(3, dim=-1)[part]

        self._handles.append(module.register_forward_hook(keep))


def layers_of(network: Network) -> list[nn.Module]:
    """Return the network's layers in order; none where there is no one list of as many as it says to have."""
    lists: dict[str, dict[int, nn.Module]] = {}
    for path, module in network.body.named_modules():
        match = _LAYER.fullmatch(path)
        if match:
            lists.setdefault(match["list"], {})[int(match["number"])] = module
    fitting = [each for each in lists.values() if network.layers and sorted(each) == list(range(network.layers))]
    return [fitting[0][number] for number in range(network.layers)] if len(fitting) == 1 else []
