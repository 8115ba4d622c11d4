"""What can be taken out of a network as a whole: heads and feed-forward neurons of transformer layers, and where they lie.

A unit is written by rows of some layers and read by columns of others. It is without effect exactly where the columns that read
it are 0, whatever lies between; so that is how it is masked, and taking rows and columns out changes no answer.
"""

from __future__ import annotations

import re
from typing import Final

from torch import Tensor, nn

from stillhouse.errors import SpecError
from stillhouse.passes.distill.prune.config import FIELD, UNITS, PruneConfig, emptied, taken
from stillhouse.passes.distill.prune.graph import graph_units
from stillhouse.passes.distill.prune.unit import Slot, Units
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.traces import PROJECTIONS, TOGETHER, layers_of

__all__ = ["find_units", "out_of"]

_OUT: Final = re.compile(r"(?:.*\.)?(?:attention\.output\.dense|attention_out|out_lin|o_proj|out_proj|(?:attn|attention)\.o)")


def find_units(network: Network, config: PruneConfig, example: tuple[Tensor, ...]) -> list[Units]:
    """Return the units of every kind that is asked for. `example` is what the network reads.

    Raises:
        SpecError: there are none of a kind, or fewer than the share leaves one of in every layer.
    """
    found: list[Units] = []
    layers = layers_of(network)
    for kind in UNITS:
        share = getattr(config, kind)
        if share is None:
            continue
        if layers and kind != "channels":
            some = [each for number in range(len(layers)) for each in _of_layer(network, layers[number], number, kind)]
        else:
            some = [] if kind == "heads" else graph_units(network, kind, example)
        trainable = [units for units in some if all(network.get_submodule(s.path).weight.requires_grad for s in units.readers)]
        if not trainable:
            raise _none(network, kind, frozen=bool(some))
        _check_share(trainable, kind, share)
        found += trainable
    return found


def out_of(units: list[Units], share: float) -> int:
    """Return how many of these units a share is."""
    return taken(share, sum(each.count for each in units))


def _of_layer(network: Network, layer: nn.Module, number: int, kind: str) -> list[Units]:
    paths = {id(module): path for path, module in network.named_modules()}
    linear = {path: module for path, module in layer.named_modules() if isinstance(module, nn.Linear)}
    where = {path: paths[id(module)] for path, module in linear.items()}
    name = paths[id(layer)].removeprefix("body.")
    together = [path for path in linear if path.rpartition(".")[2] in TOGETHER]
    single = {what: [path for path in linear if pattern.fullmatch(path)] for what, pattern in PROJECTIONS.items()}
    readers = [path for path in linear if _OUT.fullmatch(path)]
    inside = [*together, *(path for found in single.values() for path in found), *readers]
    if kind == "neurons":
        rest = [path for path in linear if path not in inside]
        pairs = [(a, b) for a in rest for b in rest if a != b and linear[a].out_features == linear[b].in_features]
        pairs = [(a, b) for a, b in pairs if linear[a].in_features == linear[b].out_features]
        if len(rest) != 2 or len({frozenset(pair) for pair in pairs}) != 1:
            return []
        # Both ways round where the width is that of the stream: the first that is defined is the one that is called first.
        first, second = pairs[0]
        return [Units(kind, name, linear[first].out_features, (Slot(where[first]),), (Slot(where[second]),))]
    if len(readers) != 1 or not network.heads:
        return []
    out = linear[readers[0]]
    width, size = out.in_features, network.hidden_size // network.heads
    writers: list[Slot] = []
    if len(together) == 1 and linear[together[0]].out_features == 3 * width:
        writers = [Slot(where[together[0]], size, part * width) for part in range(3)]
    elif not together and all(len(found) == 1 and linear[found[0]].out_features == width for found in single.values()):
        writers = [Slot(where[found[0]], size) for found in single.values()]
    if not writers or width % size:
        return []
    return [Units(kind, name, width // size, tuple(writers), (Slot(where[readers[0]], size),))]


def _check_share(units: list[Units], kind: str, share: float) -> None:
    """Refuse a share that leaves fewer units than there are layers: one in each has to stay.

    Raises:
        SpecError: it does.
    """
    smallest = min(units, key=lambda each: each.count)
    wrong = emptied(kind, share, sum(each.count for each in units), len(units), f"; {smallest.name} has {smallest.count}")
    if wrong is not None:
        raise wrong


def _none(network: Network, kind: str, *, frozen: bool) -> SpecError:
    if frozen:
        return SpecError(
            f"freeze holds still everything that has {kind}",
            field=f"{FIELD}.{kind}",
            found="no layer that learns",
            allowed="layers that are not frozen",
            fix=f"freeze fewer layers, or leave {kind} out",
        )
    return SpecError(
        f"the student shows no {kind} that could be taken out",
        field=f"{FIELD}.{kind}",
        found=f"a network of kind {network.architecture.kind}, {type(network.body).__name__}",
        allowed={
            "heads": "transformer layers with a projection each for queries, keys and values",
            "neurons": "transformer layers with two linear layers after the attention, or linear layers that only others read",
            "channels": "convolutions whose channels only convolutions and linear layers read",
        }[kind],
        fix=f"leave {kind} out, or prune weights",
    )
