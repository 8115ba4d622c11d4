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
import triton_python_backend_utils as pb_utils  # noqa: E402

from stillhouse.inference.step_session import StepSession  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `model.onnx`."""
        config = json.loads(args["model_config"])
        self.session = StepSession(Path(args["model_repository"]) / args["model_version"] / "model.onnx")
        self.inputs = [each["name"] for each in config["input"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of one batch with one run."""
        given = [[pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests] for name in self.inputs]
        ends = np.cumsum([len(array) for array in given[0]])[:-1]
        wanted = [request.requested_output_names() for request in requests]
        asked = sorted({_plain(name) for names in wanted for name in names})
        try:
            feed = {name: np.concatenate(arrays) for name, arrays in zip(self.inputs, given, strict=True)}
            answers = self.session.run(feed, asked)
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            failure = pb_utils.TritonError(f"{error}".splitlines()[0][:300], pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(output_tensors=[], error=failure) for _ in requests]
        parts = {name: np.split(array, ends) for name, array in answers.items()}
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(name, parts[_plain(name)][position]) for name in names])
            for position, names in enumerate(wanted)
        ]


def _plain(name: str) -> str:
    """Return the graph's name of an output: what the answer and the next step get is given twice, see `joined.py`."""
    return name.removesuffix(".next")
