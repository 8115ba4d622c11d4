"""Channels and neurons of a network that shows no layers: found by following what it computes.

torch.export gives the operations. A convolution's channels, or a linear layer's outputs, are followed through whatever treats
each by itself (activations, batch norms, pooling, flattening, concatenation) up to the layers that read them. Where anything
else takes them (a shortcut, the network's output) they stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from stillhouse.errors import SpecError
from stillhouse.passes.distill.prune.config import FIELD
from stillhouse.passes.distill.prune.unit import Slot, Units
from stillhouse.passes.models.network import Network
from stillhouse.passes.models.pruned import NARROWED

__all__ = ["graph_units"]

_MAKERS: Final = {"channels": ("conv1d", "conv2d"), "neurons": ("linear",)}
_EACH_BY_ITSELF: Final = frozenset(
    (
        *("relu", "relu_", "relu6", "gelu", "silu", "silu_", "elu", "elu_", "leaky_relu", "leaky_relu_", "hardtanh", "hardtanh_"),
        *("hardswish", "hardswish_", "hardsigmoid", "sigmoid", "tanh", "mish", "softplus"),
        *("dropout", "clone", "contiguous", "to"),
        *("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"),
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
    )
)
_OVER: Final = frozenset(("mean", "amax", "sum", "max"))
_SHAPED: Final = frozenset(("flatten", "view", "reshape", "squeeze", "unflatten"))


@dataclass(frozen=True, slots=True)
class _At:
    """In which dimension of a tensor the units lie, from where on, how many entries for each."""

    axis: int
    offset: int = 0
    block: int = 1


class _Taken(Exception):
    """Something takes the units that cannot do without."""


def graph_units(network: Network, kind: str, example: tuple[Tensor, ...]) -> list[Units]:
    """Return the units of `kind` that can be taken out; `example` is what the network reads.

    Raises:
        SpecError: the network cannot be followed.
    """
    try:
        program = torch.export.export(network, example)
    except Exception as error:  # whatever is in a factory's network that torch.export cannot follow
        raise SpecError(
            f"the student's {kind} cannot be found: torch.export cannot follow the network",
            field=f"{FIELD}.{kind}",
            found=str(error).strip().partition("\n")[0][:200] or type(error).__name__,
            allowed="a network without control flow that depends on values",
            fix=f"leave {kind} out, or prune weights",
        ) from error
    names = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    uses: dict[str, int] = {}
    for node in program.graph.nodes:
        for used in node.all_input_nodes:
            if used.name in names:
                uses[names[used.name]] = uses.get(names[used.name], 0) + 1
    reading = _Reading(network, names, uses)
    found = []
    for node in program.graph.nodes:
        path = reading.layer(node, 1) if _name(node) in _MAKERS[kind] else None
        if path is None or _groups(node) != 1:
            continue
        axis = 1 if kind == "channels" else node.meta["val"].dim() - 1
        try:
            writers, readers = reading.follow(node, _At(axis))
        except _Taken:
            continue
        if readers:
            count = int(network.get_submodule(path).weight.shape[0])
            found.append(Units(kind, path.removeprefix("body."), count, (Slot(path), *writers), tuple(readers)))
    return found


class _Reading:
    """Follows units through the operations of one network."""

    def __init__(self, network: Network, names: dict[str, str], uses: dict[str, int]) -> None:
        self._network, self._names, self._uses = network, names, uses

    def layer(self, node: Any, argument: int) -> str | None:
        """Return the path of the layer whose weight an operation takes; None where it is shared, or of no layer that we know."""
        weight = node.args[argument] if len(node.args) > argument else None
        name = self._names.get(getattr(weight, "name", ""), "")
        path, _, last = name.rpartition(".")
        if last != "weight" or self._uses.get(name) != 1:
            return None
        return path

    def follow(self, node: Any, at: _At) -> tuple[list[Slot], list[Slot]]:
        """Return (what else writes units, what reads them) of the tensor that `node` gives.

        Raises:
            _Taken: something else takes them.
        """
        writers: list[Slot] = []
        readers: list[Slot] = []
        for user in node.users:
            name = _name(user)
            path = self.layer(user, 1)
            if name in ("conv1d", "conv2d", "linear"):
                last = user.meta["val"].dim() - 1 if name == "linear" else 1
                layer = self._network.get_submodule(path) if path is not None else None
                if user.args[0] is not node or at.axis != last or _groups(user) != 1 or not isinstance(layer, NARROWED):
                    raise _Taken
                assert path is not None
                readers.append(Slot(path, at.block, at.offset))
                continue
            if name == "batch_norm":
                if path is None or at.axis != 1:
                    raise _Taken
                writers.append(Slot(path, at.block, at.offset))
                more = self.follow(user, at)
            elif name == "max" and isinstance(user.meta["val"], tuple | list):
                values = [each for each in user.users if each.args[1] == 0]
                if len(values) != len(user.users):
                    raise _Taken
                more = ([], [])
                for each in values:
                    found = self.follow(each, _moved(node, each, name, user, at))
                    more = (more[0] + found[0], more[1] + found[1])
            else:
                more = self.follow(user, _moved(node, user, name, user, at))
            writers += more[0]
            readers += more[1]
        return writers, readers


def _moved(node: Any, result: Any, name: str, user: Any, at: _At) -> _At:
    """Return where the units lie in `result`, which `user` makes of `node`.

    Raises:
        _Taken: there is no telling.
    """
    before, after = list(node.meta["val"].shape), getattr(result.meta.get("val"), "shape", None)
    if after is None or user.op != "call_function":
        raise _Taken
    if name in _EACH_BY_ITSELF:
        return at
    if name == "cat":
        axis = user.args[1] % len(before) if len(user.args) > 1 else 0
        parts = list(user.args[0])
        if axis != at.axis or parts.count(node) != 1:
            raise _Taken
        return replace(at, offset=at.offset + sum(part.meta["val"].shape[axis] for part in parts[: parts.index(node)]))
    if name in ("permute", "transpose"):
        order = list(range(len(before)))
        if name == "permute":
            order = [axis % len(before) for axis in user.args[1]]
        else:
            a, b = (axis % len(before) for axis in user.args[1:3])
            order[a], order[b] = order[b], order[a]
        return replace(at, axis=order.index(at.axis))
    if name in _OVER and len(user.args) > 1:
        over = user.args[1] if isinstance(user.args[1], list | tuple) else [user.args[1]]
        axes = {axis % len(before) for axis in over}
        if at.axis in axes:
            raise _Taken
        kept = len(after) == len(before)
        return at if kept else replace(at, axis=at.axis - sum(axis < at.axis for axis in axes))
    if name in _SHAPED:
        return _reshaped(before, list(after), at)
    raise _Taken


def _reshaped(before: list[int], after: list[int], at: _At) -> _At:
    """Return where the units lie once the dimensions behind theirs are folded into it, or such of size 1 are gone."""
    whole = math.prod(before[at.axis :])
    for axis, size in enumerate(after):
        if math.prod(after[:axis]) != math.prod(before[: at.axis]):
            continue
        if size == before[at.axis]:
            return replace(at, axis=axis)
        if size == whole and axis == len(after) - 1:
            each = math.prod(before[at.axis + 1 :])
            return _At(axis, at.offset * each, at.block * each)
    raise _Taken


def _name(node: Any) -> str:
    """Return an operation's name without its overload: `conv2d` of aten.conv2d.default."""
    target = getattr(node, "target", None)
    return str(getattr(target, "__name__", target)).partition(".")[0] if node.op == "call_function" else ""


def _groups(node: Any) -> int:
    """Return a convolution's groups; a linear layer has one."""
    if not _name(node).startswith("conv"):
        return 1
    return int(node.args[6]) if len(node.args) > 6 else int(node.kwargs.get("groups", 1))
