"""What gives tensors to a pipeline's answer that its steps take too: `backends/stillhouse_copy/model.py` (see `joined.py`)."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

for _folder in reversed(os.environ.get("STILLHOUSE_PYTHONPATH", "").split(os.pathsep)):
    if _folder and _folder not in sys.path:
        sys.path.insert(0, _folder)

import triton_python_backend_utils as pb_utils  # noqa: E402 - it needs numpy, which the stub finds there


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read which output is which input: they stand in the same order."""
        config = json.loads(args["model_config"])
        pairs = zip(config["output"], config["input"], strict=True)
        self.pairs = [(output["name"], given["name"]) for output, given in pairs]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request with what it holds."""
        return [
            pb_utils.InferenceResponse(
                output_tensors=[
                    pb_utils.Tensor(output, pb_utils.get_input_tensor_by_name(request, given).as_numpy())
                    for output, given in self.pairs
                    if output in request.requested_output_names()
                ]
            )
            for request in requests
        ]
