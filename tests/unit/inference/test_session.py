"""A session of ONNX Runtime: INT8 weights of 8 bits answer what they say, with VNNI and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.tiny_model import write_tiny_model

from stillhouse.errors import SourceError
from stillhouse.inference import options
from stillhouse.inference.session import ModelSession
from stillhouse.inference.signature import Signature
from stillhouse.passes.export.timing import open_session

WEIGHT = 127
ROUNDED = [
    helper.make_node("DynamicQuantizeLinear", ["values"], ["read", "scale", "zero"]),
    helper.make_node("MatMulInteger", ["read", "weights", "zero", "none"], ["whole"]),
    helper.make_node("Cast", ["whole"], ["number"], to=TensorProto.FLOAT),
    helper.make_node("Mul", ["number", "scale"], ["scaled"]),
    helper.make_node("Mul", ["scaled", "step"], ["logits"]),
]
RANGED = [
    helper.make_node("QuantizeLinear", ["values", "range", "low"], ["read"]),
    helper.make_node("DequantizeLinear", ["read", "range", "low"], ["number"]),
    helper.make_node("DequantizeLinear", ["weights", "step", "none"], ["matrix"]),
    helper.make_node("MatMul", ["number", "matrix"], ["logits"]),
]
CONSTANTS = {
    "weights": np.full((4, 3), WEIGHT, np.int8), "none": np.int8(0), "step": np.float32(1 / WEIGHT),
    "range": np.float32(1 / 255), "low": np.uint8(0),
}  # fmt: skip


def written(nodes: list[onnx.NodeProto], folder: Path, weights: npt.NDArray[np.int8] = CONSTANTS["weights"]) -> Signature:
    signature = write_tiny_model(folder, task="tabular-classification")
    used = {name for node in nodes for name in node.input}
    constants = {**CONSTANTS, "weights": weights}
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return signature


@pytest.mark.parametrize("nodes", [ROUNDED, RANGED], ids=["dynamic", "static"])
def test_weights_of_eight_bits_do_not_saturate(nodes: list[onnx.NodeProto], tmp_path: Path) -> None:
    """255 * 127 twice is beyond 16 bits, in which AVX2 adds two products; a machine with VNNI makes such weights."""
    signature = written(nodes, tmp_path)
    rows = {"values": np.ones((2, 4), np.float32)}
    np.testing.assert_allclose(ModelSession(tmp_path, signature, 1).run(rows), 4, rtol=1e-5)
    measured = open_session(tmp_path / "model.onnx", 1).run(None, rows)[0]
    np.testing.assert_allclose(measured, 4, rtol=1e-5, err_msg="what is measured is what will serve")


@pytest.mark.parametrize("unsigned", [False, True], ids=["signed", "unsigned"])
def test_a_weight_that_operators_share_answers_right_or_says_what_to_do(
    unsigned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two towers, or layers that are one: ONNX Runtime refuses to take such a weight unsigned."""
    monkeypatch.setattr(options, "saturates", lambda: unsigned)
    again = [
        helper.make_node("MatMulInteger", ["read", "weights", "zero", "none"], ["twice"]),
        helper.make_node("Add", ["whole", "twice"], ["both"]),
    ]
    nodes = [*ROUNDED[:2], *again, helper.make_node("Cast", ["both"], ["number"], to=TensorProto.FLOAT), *ROUNDED[3:]]
    column = np.array([[WEIGHT], [-WEIGHT], [WEIGHT], [1]], np.int8)  # no two of them are beyond 16 bits
    signature = written(nodes, tmp_path, np.repeat(column, 3, axis=1))
    try:
        found = ModelSession(tmp_path, signature, 1).run({"values": np.ones((2, 4), np.float32)})
    except SourceError as error:
        assert unsigned
        assert "share" in error.problem.fix
        assert "7 bits" in error.problem.fix
    else:
        np.testing.assert_allclose(found, 2 * (WEIGHT + 1) / WEIGHT, rtol=1e-5)
