"""A step of a pipeline, an ONNX graph over tensors: `backends/stillhouse_step/model.py`, run by Triton's Python backend."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

for _folder in reversed(os.environ.get("STILLHOUSE_PYTHONPATH", "").split(os.pathsep)):
    if _folder and _folder not in sys.path:
        sys.path.insert(0, _folder)

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import onnxruntime  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `model.onnx`."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.flat = {each.name for each in self.session.get_inputs() if len(each.shape) == 1}
        self.inputs = [each["name"] for each in config["input"]]
        self.outputs = {each["name"]: [-1, *(int(dim) for dim in each["dims"])] for each in config["output"]}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of one batch with one run."""
        given = [[pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests] for name in self.inputs]
        ends = np.cumsum([len(array) for array in given[0]])[:-1]
        wanted = [request.requested_output_names() for request in requests]
        asked = sorted({_plain(name) for names in wanted for name in names})
        try:
            feed = {name: self._taken(name, arrays) for name, arrays in zip(self.inputs, given, strict=True)}
            answers = self.session.run(asked, feed)
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            failure = pb_utils.TritonError(f"{error}".splitlines()[0][:300], pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(output_tensors=[], error=failure) for _ in requests]
        parts = {name: np.split(self._given(name, array), ends) for name, array in zip(asked, answers, strict=True)}
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(name, parts[_plain(name)][position]) for name in names])
            for position, names in enumerate(wanted)
        ]

    def _taken(self, name: str, arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        if array.dtype == object:
            array = np.array([value.decode("utf-8", "replace") for value in array.ravel()], dtype=object).reshape(array.shape)
        return array.reshape(len(array)) if name in self.flat else array

    def _given(self, name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if array.dtype.kind in "OU":
            array = np.array([str(value).encode("utf-8") for value in array.ravel()], dtype=object).reshape(array.shape)
        return np.ascontiguousarray(array).reshape(self.outputs[name])


def _plain(name: str) -> str:
    """Return the graph's name of an output: what the answer and the next step get is given twice, see `joined.py`."""
    return name.removesuffix(".next")
