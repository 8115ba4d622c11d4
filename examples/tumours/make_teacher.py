#!/usr/bin/env python3
"""Train the teacher of `tumours`, scikit-learn's boosted trees, and write it as ONNX: seconds. Needs `build_data.py` before.

Who has skl2onnx, or onnxmltools for LightGBM and XGBoost, exports with that; this script needs neither.

Example:
    python examples/tumours/make_teacher.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.commands import teacher_options
from _shared.progress import Progress

HERE = Path(__file__).resolve().parent
SEED, TREES, DEPTH = 7, 100, 3


def read(path: Path) -> tuple[Any, list[str]]:
    """Columns float32 [n, 30] and labels of a file that `build_data.py` wrote."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    names = [name for name in table.column_names if name != "label"]
    return np.stack([table[name].to_numpy() for name in names], axis=1), table["label"].to_pylist()


def onnx_of(model: Any, columns: int) -> Any:
    """Return the trees of a two-class `GradientBoostingClassifier` as an ONNX model: columns → `probabilities` of its classes.

    Their sum is the second class's log-odds. Both it and its opposite are given to a logistic function.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    node: dict[str, list[Any]] = {name: [] for name in ("tree", "id", "feature", "value", "mode", "true", "false")}
    leaf: dict[str, list[Any]] = {name: [] for name in ("tree", "id", "weight")}
    for number, ((regressor,),) in enumerate(zip(model.estimators_, strict=True)):
        tree = regressor.tree_
        for each in range(tree.node_count):
            last = tree.children_left[each] < 0
            # Scikit-learn compares float32 columns with float64 thresholds: the next float32 below decides alike.
            exact = float(tree.threshold[each])
            rounded = np.float32(exact)
            if float(rounded) > exact:
                rounded = np.nextafter(rounded, np.float32(-np.inf))
            for name, value in (
                ("tree", number), ("id", each), ("feature", 0 if last else int(tree.feature[each])), ("value", float(rounded)),
                ("mode", "LEAF" if last else "BRANCH_LEQ"), ("true", max(0, int(tree.children_left[each]))),
                ("false", max(0, int(tree.children_right[each]))),
            ):  # fmt: skip
                node[name].append(value)
            if last:
                weight = model.learning_rate * float(tree.value[each, 0, 0])
                for name, value in (("tree", number), ("id", each), ("weight", weight)):
                    leaf[name].append(value)
    prior = float(model._raw_predict_init(np.zeros((1, columns)))[0, 0])
    trees = helper.make_node(
        "TreeEnsembleRegressor", ["columns"], ["score"], domain="ai.onnx.ml", n_targets=1, base_values=[prior],
        nodes_treeids=node["tree"], nodes_nodeids=node["id"], nodes_featureids=node["feature"], nodes_values=node["value"],
        nodes_modes=node["mode"], nodes_truenodeids=node["true"], nodes_falsenodeids=node["false"],
        target_ids=[0] * len(leaf["id"]), target_treeids=leaf["tree"], target_nodeids=leaf["id"], target_weights=leaf["weight"],
    )  # fmt: skip
    rest = [
        helper.make_node("Mul", ["score", "signs"], ["both"]),
        helper.make_node("Sigmoid", ["both"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        [trees, *rest],
        "trees",
        [helper.make_tensor_value_info("columns", TensorProto.FLOAT, ["batch", columns])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.array([[-1, 1]], dtype=np.float32), "signs")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def make(data: Path, out: Path, progress: Progress) -> tuple[int, int, list[str]]:
    """Train, write `teacher.onnx`; return (validation rows that it has right, validation rows, its classes in order)."""
    progress.step("loading scikit-learn")
    from sklearn.ensemble import GradientBoostingClassifier

    progress.step(f"training {TREES} trees")
    values, labels = read(data / "train.parquet")
    model = GradientBoostingClassifier(n_estimators=TREES, max_depth=DEPTH, learning_rate=0.1, random_state=SEED)
    model.fit(values, labels)
    progress.step("writing them as ONNX")
    out.mkdir(parents=True, exist_ok=True)
    (out / "teacher.onnx").write_bytes(onnx_of(model, values.shape[1]).SerializeToString())
    values, labels = read(data / "validation.parquet")
    return int((model.predict(values) == labels).sum()), len(labels), [str(each) for each in model.classes_]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = teacher_options(__doc__, HERE, arguments)
    with Progress() as progress:
        right, count, classes = make(options.data, options.out, progress)
    print(f"teacher: {right} of {count} validation rows right; its classes: {', '.join(classes)}; written to {options.out}")


if __name__ == "__main__":
    main()
