"""Where a graph can be cut in two: tensors that all of the rest goes through.

The frontier are the named tensors: whatever else would have to cross is refused with its names. Inputs of the model that say how
long rows are (an attention mask) may be read by both halves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import helper

from stillhouse.errors import SpecError
from stillhouse.passes.compress.masks import MASK
from stillhouse.passes.export.tidy import subgraphs

__all__ = ["BESIDE", "LAYER", "allowed", "halves", "places"]

BESIDE = frozenset({MASK, "token_type_ids"})
"""Inputs that may travel beside activations: they say how long rows are, not what is in them."""
LAYER = "spec.edge.cut.layer"
_SHOWN = 80
"""Names of places that a message has at most, evenly among all."""


def halves(model: onnx.ModelProto, at: Sequence[str], output: str) -> tuple[onnx.ModelProto, onnx.ModelProto, tuple[str, ...]]:
    """Cut a model at tensors (or nodes, of which the first output counts); return both halves and the tensors' names.

    Raises:
        SpecError: no such tensor, it does not lead to the output, or others would have to cross.
    """
    graph = model.graph
    makers = {name: position for position, node in enumerate(graph.node) for name in node.output if name}
    by_node = {node.name: node.output[0] for node in graph.node if node.name}
    names = tuple(dict.fromkeys(each if each in makers else by_node.get(each, each) for each in at))
    for name in names:
        if name not in makers or name == output:
            raise SpecError("no such tensor inside of the model", field=LAYER, found=name[:100], allowed=allowed(model, output))
    low, _ = _before(graph, makers, names, ())
    high, reached = _before(graph, makers, (output,), names)
    useless = [name for name in names if name not in reached]
    if useless:
        raise SpecError(
            "this tensor does not lead to the output", field=LAYER, found=", ".join(useless), allowed=allowed(model, output)
        )
    shared = (low & high) - _constant(graph)  # weights unpacked and masks: each half has its own
    if shared:
        makes = {name for position in shared for name in graph.node[position].output}
        crossing = sorted({name for position in high - shared for name in _reads(graph.node[position]) if name in makes})
        raise SpecError(
            "other tensors would have to cross the cut",
            field=LAYER,
            found=", ".join(crossing[:10]),
            allowed=allowed(model, output),
            fix="cut at a tensor that everything goes through",
        )
    return _part(model, low, names, ()), _part(model, high, (output,), names), names


def places(model: onnx.ModelProto, output: str) -> tuple[str, ...]:
    """Return the tensors that a model may be cut at, each alone, from the inputs to the output.

    Those beside which what the model is asked (token ids, pixels) would have to travel are not among them.
    """
    graph = model.graph
    makers = {name: position for position, node in enumerate(graph.node) for name in node.output if name}
    constant = _constant(graph)
    given = {each.name for each in graph.input} - {each.name for each in graph.initializer}
    found = []
    for name, position in makers.items():
        if name == output or position in constant:
            continue
        low, _ = _before(graph, makers, (name,), ())
        high, reached = _before(graph, makers, (output,), (name,))
        asked = {name for position in high for name in _reads(graph.node[position])} - BESIDE
        if reached and not (low & high) - constant and not asked & given:
            found.append(name)
    return tuple(found)


def allowed(model: onnx.ModelProto, output: str) -> str:
    """Return the names of `places` as an error has them."""
    names = places(model, output)
    more = f" (and {len(names) - _SHOWN} more)" if len(names) > _SHOWN else ""
    return ", ".join(names[:: max(1, math.ceil(len(names) / _SHOWN))]) + more if names else "none: no tensor is alone"


def _before(
    graph: onnx.GraphProto, makers: Mapping[str, int], wanted: Iterable[str], stop: Iterable[str]
) -> tuple[set[int], set[str]]:
    """Return the nodes that `wanted` needs, and which tensors of `stop` were met."""
    found, met, ends, left = set[int](), set[str](), set(stop), list(wanted)
    while left:
        name = left.pop()
        if name in ends:
            met.add(name)
        elif name in makers and makers[name] not in found:
            found.add(makers[name])
            left.extend(_reads(graph.node[makers[name]]))
    return found, met


def _constant(graph: onnx.GraphProto) -> set[int]:
    """Return the nodes that read nothing but weights and inputs that may travel beside: each half makes its own of these.

    Every layer reads the mask's expanded form: without this, nothing between the first and the last could be cut.
    """
    known, found = {each.name for each in graph.initializer} | BESIDE, set[int]()
    for position, node in enumerate(graph.node):  # in order: what a node reads was made before
        if set(_reads(node)) <= known and not node.op_type.startswith("Random"):
            found.add(position)
            known.update(node.output)
    return found


def _reads(node: onnx.NodeProto) -> list[str]:
    """Return what a node reads, the graphs inside it too (of names of their own no node of the whole is the maker)."""
    inner = [name for graph in subgraphs(node) for each in graph.node for name in _reads(each)]
    inner += [each.name for graph in subgraphs(node) for each in graph.output]
    return [name for name in (*node.input, *inner) if name]


def _part(model: onnx.ModelProto, nodes: set[int], outputs: Sequence[str], given: Sequence[str]) -> onnx.ModelProto:
    graph = model.graph
    kept = [graph.node[position] for position in sorted(nodes)]
    reads = {name for node in kept for name in _reads(node)}
    weights = [each for each in graph.initializer if each.name in reads]
    known = {each.name: each for each in onnx.shape_inference.infer_shapes(model).graph.value_info}
    known |= {each.name: each for each in (*graph.input, *graph.output)}
    fixed = {each.name for each in graph.initializer}
    inputs = [known.get(name) or helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in given]
    inputs += [each for each in graph.input if each.name in reads and each.name not in fixed]
    results = [known.get(name) or onnx.ValueInfoProto(name=name) for name in outputs]
    made = helper.make_graph(kept, graph.name, inputs, results, weights)
    part = helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)
    part.functions.extend(model.functions)
    return part
