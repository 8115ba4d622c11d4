"""When ranges are read again while a student learns INT8, and how what it learned is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from stillhouse.errors import SourceError
from stillhouse.passes.compress.learned import QUANTIZATION_FILE, Learned, read_learned, write_learned
from stillhouse.passes.compress.smooth import rescale
from stillhouse.passes.distill.quantize.config import READINGS, reads_before


@given(st.integers(1, 5000))
def test_ranges_follow_in_the_first_half_and_stay_in_the_second(steps: int) -> None:
    read = [step for step in range(steps) if reads_before(step, steps)]
    assert len(read) <= READINGS
    assert all(0 < step <= (steps + 1) // 2 for step in read), "before the first step they were read already"
    if steps > 1:
        assert read[-1] == (steps + 1) // 2, "the last time when half of the steps are done"
    between = np.diff([0, *read])
    assert steps < 2 or between.max() <= -(-((steps + 1) // 2) // READINGS)


def test_what_was_learned_is_read_as_it_was_written(tmp_path: Path) -> None:
    layers = (Learned("a.weight", 0.1, 0), Learned("b.weight", float(np.float32(0.037)), 131, (0.5, 4.0)))
    write_learned(tmp_path, layers)
    assert read_learned(tmp_path) == layers
    assert (layers[1].range.high - layers[1].range.low) / 255 == pytest.approx(layers[1].scale, rel=1e-12)
    (tmp_path / QUANTIZATION_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(SourceError, match="not readable"):
        read_learned(tmp_path)


def test_what_two_layers_read_is_divided_for_each() -> None:
    """One norm, read by layers that were balanced unlike, and one that was not."""
    random = np.random.default_rng(1)
    weights = {name: random.standard_normal((4, 4)).astype(np.float32) for name in "abc"}
    nodes = [helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["normed"], "norm")]
    nodes += [helper.make_node("MatMul", ["normed", name], [f"out_{name}"], f"layer_{name}") for name in "abc"]
    ones = {"gain": np.ones(4, np.float32), "shift": np.zeros(4, np.float32)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 4])],
        [helper.make_tensor_value_info(f"out_{name}", TensorProto.FLOAT, ["b", 4]) for name in "abc"],
        [numpy_helper.from_array(value, name) for name, value in (weights | ones).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    scales = {"layer_a": np.array([2, 1, 1, 1], np.float32), "layer_b": np.array([1, 0.25, 1, 8], np.float32)}
    made, divided = rescale(model, {**scales, "layer_c": np.ones(4, np.float32)})
    onnx.checker.check_model(made)
    assert divided == ("normed",)
    reads = {node.name: node.input[0] for node in made.graph.node}
    assert len({reads["layer_a"], reads["layer_b"], reads["layer_c"]}) == 3
    assert reads["layer_c"] == "normed"
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    by = {node.output[0]: values[node.input[1]] for node in made.graph.node if node.op_type == "Mul"}
    for name in "ab":
        node = next(each for each in made.graph.node if each.name == f"layer_{name}")
        np.testing.assert_array_equal(by[node.input[0]][:, None] * values[node.input[1]], weights[name])
