"""What comes after a classifier of an ensemble: `backends/stillhouse_post/model.py`, run by Triton's Python backend."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

for _folder in reversed(os.environ.get("STILLHOUSE_PYTHONPATH", "").split(os.pathsep)):
    if _folder and _folder not in sys.path:
        sys.path.insert(0, _folder)

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from stillhouse.inference.postprocess import softmax, top_labels  # noqa: E402
from stillhouse.inference.signature import Signature  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the labels."""
        self.labels = Signature.read(Path(args["model_repository"]) / args["model_version"]).labels

    def execute(self, requests: list[Any]) -> list[Any]:
        """Turn logits into probabilities and labels."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        values = softmax(pb_utils.get_input_tensor_by_name(request, "LOGITS").as_numpy())
        rows = [label.encode() for label in top_labels(values, self.labels)]
        found = {"PROBABILITIES": values, "LABEL": np.array(rows, dtype=object)[:, np.newaxis]}
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor(name, tensor) for name, tensor in found.items() if name in wanted]
        )
