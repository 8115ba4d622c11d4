"""Stillhouse's Triton backend: `backends/stillhouse/model.py`, run by Triton's Python backend.

It is thin on purpose: requests to strings, one call of `Engine`, answers to responses. The process that runs it starts
Python isolated, so it is told where packages lie by the environment variable STILLHOUSE_PYTHONPATH.
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

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from stillhouse.errors import StillhouseError  # noqa: E402
from stillhouse.inference.engine import Engine  # noqa: E402
from stillhouse.inference.postprocess import top_labels  # noqa: E402
from stillhouse.inference.text import decode_utf8  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model and warm it up."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self.engine = Engine(folder, int(parameters.get("stillhouse.threads", "1")))
        self.task = self.engine.signature.task
        self.identity = {
            "contract": parameters.get("stillhouse.contract", ""),
            "digest": parameters.get("stillhouse.digest", ""),
            "precision": parameters.get("stillhouse.precision", ""),
            "variant": parameters.get("stillhouse.variant", ""),
        }
        rows = int(parameters.get("stillhouse.warmup_rows", "0"))
        if rows:
            self.engine.warm_up(rows)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of one batch: one tokeniser call, one set of length buckets, one response each."""
        responses: list[Any] = [None] * len(requests)
        texts: list[str] = []
        spans: list[tuple[int, int, int]] = []
        for position, request in enumerate(requests):
            try:
                if request.is_cancelled():
                    responses[position] = _failure("the client cancelled the request", pb_utils.TritonError.CANCELLED)
                    continue
                values = _strings(request)
                spans.append((position, len(texts), len(values)))
                texts += values
            except StillhouseError as error:
                responses[position] = _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        if texts:
            result = self.engine.run_texts(texts)
            for position, start, count in spans:
                rows = result.values[start : start + count]
                responses[position] = self._answer(requests[position], rows, result.cut[start : start + count])
        return responses

    def _answer(self, request: Any, values: npt.NDArray[np.float32], cut: list[int]) -> Any:
        wanted = request.requested_output_names()
        tensors = []
        for name in wanted:
            if name in ("EMBEDDING", "PROBABILITIES"):
                tensors.append(pb_utils.Tensor(name, values))
            elif name == "LABEL":
                labels = top_labels(values, self.engine.signature.labels)
                tensors.append(pb_utils.Tensor(name, np.array(labels, dtype=object)[:, np.newaxis]))
            elif name == "PROVENANCE":
                rows = [json.dumps({**self.identity, "truncated": tokens}) for tokens in cut]
                tensors.append(pb_utils.Tensor(name, np.array(rows, dtype=object)[:, np.newaxis]))
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _strings(request: Any) -> list[str]:
    array = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
    return decode_utf8(array.ravel().tolist(), "TEXT")


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
