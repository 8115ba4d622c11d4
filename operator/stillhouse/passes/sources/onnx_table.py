"""The table of token embeddings in a graph: how many ids a tokenizer may give, read off before anything runs."""

from __future__ import annotations

import onnx

__all__ = ["embedding_rows"]

_SAME_NUMBERS = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators behind which ids are still the ids."""
_SAME_ROWS = frozenset({"Cast", "DequantizeLinear", "Identity"})
"""Operators behind which a table still has its rows."""
_FUSED = frozenset({"EmbedLayerNormalization", "QEmbedLayerNormalization"})


def embedding_rows(graph: onnx.GraphProto) -> int | None:
    """Return the rows of the table that `input_ids` are looked up in, of the smallest where there are several.

    None where no such table is seen: it is made inside a subgraph, or the ids are reckoned with before.
    """
    ids = {"input_ids"}
    tables = {tensor.name: int(tensor.dims[0]) for tensor in graph.initializer if tensor.dims}
    found: list[int] = []
    for node in graph.node:  # in an order in which everything is made before it is used
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.t.dims:
                    tables[node.output[0]] = int(attribute.t.dims[0])
        elif node.op_type in _FUSED:
            if node.input[0] in ids and node.input[2] in tables:
                found.append(tables[node.input[2]])
        elif node.op_type == "Gather":
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            if axis == 0 and node.input[0] in tables and node.input[1] in ids:
                found.append(tables[node.input[0]])
        elif node.op_type in _SAME_NUMBERS | _SAME_ROWS:
            if node.op_type in _SAME_NUMBERS and node.input[0] in ids:
                ids.add(node.output[0])
            if node.op_type in _SAME_ROWS and node.input[0] in tables:
                tables[node.output[0]] = tables[node.input[0]]
    return min(found, default=None)
