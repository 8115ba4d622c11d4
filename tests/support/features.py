"""Tables and time series: data, the files they come in, a teacher of them, and a stage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from tests.support.artifacts import artifact, context
from tests.support.source_folders import pinned

from stillhouse.passes.base import Artifact
from stillhouse.passes.sources.data import ImportData, ImportDataConfig
from stillhouse.passes.sources.model import ImportModel, ImportModelConfig

__all__ = ["CHANNELS", "COLUMNS", "LABELS", "LENGTH", "ROWS", "STAGE", "imported", "linear", "series", "table", "write_table"]

COLUMNS = ("weight in µg", "share", "never changes", "year")
LABELS = ("low", "high")
ROWS = 240
STAGE: dict[str, Any] = {
    "stage": "soft", "losses": [{"kind": "logits", "temperature": 2.0, "alpha": 0.9}], "epochs": 12, "batchSize": 16,
    "learningRate": 0.02, "maxLength": None,
}  # fmt: skip
LENGTH, CHANNELS = 12, 2


def table(rows: int = ROWS, seed: int = 0) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Columns of very different scales; what is high is decided by two of them."""
    rng = np.random.default_rng(seed)
    share = rng.normal(0.001, 0.0002, rows)
    weight = rng.normal(5e6, 1e6, rows)
    values = np.stack([weight, share, np.full(rows, 7.1), rng.integers(1990, 2030, rows)], axis=1).astype(np.float32)
    high = (weight - 5e6) / 1e6 + (share - 0.001) / 0.0002 > 0
    return values, [LABELS[int(each)] for each in high]


def series(rows: int = ROWS, seed: int = 0) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Windows in which a bump comes early or late, on a channel far from 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.3, (rows, LENGTH, CHANNELS))
    late = rng.random(rows) < 0.5
    for row in range(rows):
        start = int(rng.integers(7, 9)) if late[row] else int(rng.integers(0, 3))
        values[row, start : start + 3, 1] += 3
    values[:, :, 1] = values[:, :, 1] * 40 + 900
    return values.astype(np.float32), [LABELS[int(each)] for each in late]


def imported(one: ImportData | ImportModel, folder: Path, source: Path, **config: Any) -> Artifact:
    """Import data or a model of one's own from a file."""
    ctx = dataclasses.replace(context(folder), source=source)
    checked = {ImportData: ImportDataConfig, ImportModel: ImportModelConfig}[type(one)]
    facts = one.run(checked.model_validate({"digest": pinned(source), **config}), {}, ctx)
    return artifact(ctx.out, one.kind_of(ctx.out), json.loads(json.dumps(dataclasses.asdict(facts))))


def write_table(path: Path, values: npt.NDArray[np.float32], labels: Sequence[str]) -> Path:
    """Write a table with its labels as CSV or Parquet, as the file's name says."""
    if path.suffix == ".csv":
        lines = [",".join((*COLUMNS, "kind", "note"))]
        lines += [",".join([*(repr(float(each)) for each in row), label, "x"]) for row, label in zip(values, labels, strict=True)]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        named = {name: values[:, place] for place, name in enumerate(COLUMNS)}
        pq.write_table(pa.table({"kind": labels, **named}), path)
    return path


def linear(values: npt.NDArray[np.float32], labels: Sequence[str], names: Sequence[str]) -> onnx.ModelProto:
    """A teacher as exporters of linear models write it: what a least-squares fit says, as `probabilities`."""
    flat = values.reshape(len(values), -1).astype(np.float64)
    mean, std = flat.mean(0), np.maximum(flat.std(0), 1e-9)
    std[std < np.abs(mean) * 1e-6] = 1
    z = np.c_[(flat - mean) / std, np.ones(len(flat))]
    fit, *_ = np.linalg.lstsq(z, np.array([1.0 if each == LABELS[1] else -1.0 for each in labels]), rcond=None)
    shape = list(values.shape[1:])
    weights = {
        "mean": mean, "std": std, "matrix": np.stack([-fit[:-1], fit[:-1]], 1) * 3, "bias": np.array([-fit[-1], fit[-1]]) * 3,
    }  # fmt: skip
    nodes = [
        helper.make_node("Flatten", ["X"], ["flat"]),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["z"]),
        helper.make_node("Gemm", ["z", "matrix", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], [names[-1]], axis=1),
        helper.make_node("ArgMax", ["scores"], [names[0]], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", *shape])],
        [
            helper.make_tensor_value_info(names[0], TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ["n", 2]),
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
