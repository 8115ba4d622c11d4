"""Which table a graph looks its tokens up in, as exporters and optimisers write it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from stillhouse.passes.sources.onnx_table import embedding_rows


def graph(*nodes: onnx.NodeProto, **tables: int) -> onnx.GraphProto:
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    weights = [numpy_helper.from_array(np.zeros((rows, 2), np.float32), name) for name, rows in tables.items()]
    return helper.make_graph(list(nodes), "g", [ids], [out], weights)


node = helper.make_node
FOUND = {
    "plain": graph(node("Gather", ["table", "input_ids"], ["out"]), table=7),
    "ids as another type": graph(
        node("Cast", ["input_ids"], ["cast"], to=TensorProto.INT32), node("Gather", ["table", "cast"], ["out"]), table=7
    ),
    "quantized": graph(
        node("DequantizeLinear", ["table", "scale"], ["wide"]), node("Gather", ["wide", "input_ids"], ["out"]), table=7
    ),
    "a constant": graph(
        node("Constant", [], ["table"], value=numpy_helper.from_array(np.zeros((7, 2), np.float32))),
        node("Gather", ["table", "input_ids"], ["out"]),
    ),
    "fused": graph(node("EmbedLayerNormalization", ["input_ids", "", "table"], ["out"], domain="com.microsoft"), table=7),
    "two, of which the smaller counts": graph(
        node("Gather", ["large", "input_ids"], ["x"]), node("Gather", ["table", "input_ids"], ["out"]), large=9, table=7
    ),
    "beside positions": graph(
        node("Gather", ["positions", "numbers"], ["x"]), node("Gather", ["table", "input_ids"], ["out"]), positions=3, table=7
    ),
}
NOT_SEEN = {
    "nothing is looked up": graph(node("Identity", ["input_ids"], ["out"]), table=7),
    "ids that are reckoned with": graph(
        node("Mod", ["input_ids", "size"], ["folded"]), node("Gather", ["table", "folded"], ["out"]), table=7
    ),
    "columns, not rows": graph(node("Gather", ["table", "input_ids"], ["out"], axis=1), table=7),
}


@pytest.mark.parametrize("case", FOUND)
def test_the_tables_rows_are_found(case: str) -> None:
    assert embedding_rows(FOUND[case]) == 7


@pytest.mark.parametrize("case", NOT_SEEN)
def test_no_table_is_guessed(case: str) -> None:
    assert embedding_rows(NOT_SEEN[case]) is None
