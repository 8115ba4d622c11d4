"""In the place of Triton's ONNX Runtime backend, which the server on the Python package index lacks: the same contract, on a CPU.

Copied into a backend directory as `onnxruntime/model.py`. What is tested with it is everything around it: the ensemble, its
tensors, its errors, its counters. What is not: that backend, CUDA and TensorRT.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

for _folder in reversed(os.environ.get("STILLHOUSE_PYTHONPATH", "").split(os.pathsep)):
    if _folder and _folder not in sys.path:
        sys.path.insert(0, _folder)

import onnxruntime  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `model.onnx`, and check what is configured against it, as that backend does."""
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for given, found in ((config["input"], self.session.get_inputs()), (config["output"], self.session.get_outputs())):
            wanted = {each["name"]: (each["data_type"], [-1, *each["dims"]]) for each in given}
            kinds = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
            there = {each.name: (kinds[each.type], [n if isinstance(n, int) else -1 for n in each.shape]) for each in found}
            if wanted != there:
                raise pb_utils.TritonModelException(f"configured are {wanted}, the model has {there}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        feed = {each.name(): each.as_numpy() for each in request.inputs()}
        names = list(request.requested_output_names())
        values = self.session.run(names, feed)
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor(name, value) for name, value in zip(names, values, strict=True)]
        )
