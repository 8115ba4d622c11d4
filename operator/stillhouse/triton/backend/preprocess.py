"""Declared steps, run by the edge's own code: `backends/stillhouse_preprocess/model.py`, run by Triton's Python backend."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

for _folder in reversed(os.environ.get("STILLHOUSE_PYTHONPATH", "").split(os.pathsep)):
    if _folder and _folder not in sys.path:
        sys.path.insert(0, _folder)

import triton_python_backend_utils as pb_utils  # noqa: E402

from stillhouse.errors import SourceError, StillhouseError  # noqa: E402
from stillhouse.inference.preprocess.chain import CHAIN_FILE, read_chain  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the chain."""
        config = json.loads(args["model_config"])
        allowed = config.get("parameters", {}).get("stillhouse.allowed", {}).get("string_value", "")
        chain = read_chain(Path(args["model_repository"]) / args["model_version"], frozenset(filter(None, allowed.split(","))))
        if chain is None:
            raise SourceError("the model has no steps", field=CHAIN_FILE, found="no such file")
        self.chain = chain

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request by itself; what is wrong with one becomes its own error."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            found = self.chain.run({tensor.name(): tensor.as_numpy() for tensor in request.inputs()})
        except StillhouseError as error:
            failure = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(output_tensors=[], error=failure)
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor(name, tensor) for name, tensor in found.items() if name in wanted]
        )
