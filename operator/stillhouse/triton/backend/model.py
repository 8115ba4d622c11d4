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

from stillhouse.errors import DataError, StillhouseError  # noqa: E402
from stillhouse.inference.engine import Engine  # noqa: E402
from stillhouse.inference.postprocess import top_labels  # noqa: E402
from stillhouse.inference.text import decode_utf8  # noqa: E402

# Triton drops cancelled requests that wait in its queue. Asking it about one that has left the queue is a round trip to
# the server's process (0.08 ms of CPU, half of the whole hop), so only requests with much work ahead are asked about.
_ASK_FROM_ROWS = 16


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model and warm it up."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self.engine = Engine(folder, int(parameters.get("stillhouse.threads", "1")))
        self.labels = self.engine.signature.labels
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
        """Answer all requests of one batch: one tokeniser call, one set of length buckets, one response each.

        What is wrong with one request becomes that request's error; the others are answered.
        """
        responses: list[Any] = [None] * len(requests)
        rows: list[Any] = []
        spans: list[tuple[int, int, int, bool]] = []
        read = self._texts if self.engine.is_text else self._arrays
        for position, request in enumerate(requests):
            try:
                values = read(request)
            except StillhouseError as error:
                responses[position] = _failure(str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            if len(values) >= _ASK_FROM_ROWS and request.is_cancelled():
                responses[position] = _failure("the client cancelled the request", pb_utils.TritonError.CANCELLED)
                continue
            spans.append((position, len(rows), len(rows) + len(values), _asked_for_provenance(request)))
            rows.extend(values)
        if rows:
            answers, cut = self._run(rows, any(told for _, _, _, told in spans))
            for position, start, end, told in spans:
                responses[position] = self._answer(requests[position], answers[start:end], cut[start:end] if told else None)
        return responses

    def _run(self, rows: list[Any], count: bool) -> tuple[npt.NDArray[np.float32], list[int]]:
        if self.engine.is_text:
            result = self.engine.run_rows(rows, count=count)
            return result.values, result.cut
        return self.engine.run_arrays(np.stack(rows)), [0] * len(rows)

    def _texts(self, request: Any) -> list[str] | list[list[int]]:
        """Return a request's texts, or the rows of token ids that it brings instead."""
        text, ids, mask = (pb_utils.get_input_tensor_by_name(request, name) for name in ("TEXT", "input_ids", "attention_mask"))
        if (text is None) == (ids is None) or (text is not None and mask is not None):
            found = ", ".join(each.name() for each in (text, ids, mask) if each is not None)
            allowed = "TEXT, or input_ids with or without attention_mask"
            raise DataError("texts or token ids belong here", field="inputs", found=found or "none", allowed=allowed)
        if text is not None:
            return decode_utf8(text.as_numpy().ravel().tolist(), "TEXT")
        return self.engine.read_tokens(ids.as_numpy(), None if mask is None else mask.as_numpy())

    def _arrays(self, request: Any) -> npt.NDArray[np.float32]:
        name = self.engine.signature.tensor
        return self.engine.prepare_arrays(pb_utils.get_input_tensor_by_name(request, name).as_numpy())

    def _answer(self, request: Any, values: npt.NDArray[np.float32], cut: list[int] | None) -> Any:
        """Return a request's outputs. `cut` None: it does not ask for provenance."""
        tensors = []
        for asked in request.requested_output_names():
            name = asked.removesuffix(".next")  # a pipeline's next step gets what the answer has
            if name in ("EMBEDDING", "PROBABILITIES"):
                tensors.append(pb_utils.Tensor(asked, values))
            elif name == "LABEL":
                tensors.append(_string_tensor(asked, top_labels(values, self.labels)))
            elif name == "PROVENANCE" and cut is not None:
                rows = [json.dumps({**self.identity, "truncated": tokens}, sort_keys=True) for tokens in cut]
                tensors.append(_string_tensor(asked, rows))
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _asked_for_provenance(request: Any) -> bool:
    """Tell whether the request carries the parameter: one that names no outputs is given the names of all of them."""
    text = request.parameters()
    return bool(text) and bool(json.loads(text).get("provenance"))


def _string_tensor(name: str, rows: list[str]) -> Any:
    return pb_utils.Tensor(name, np.array([row.encode("utf-8") for row in rows], dtype=object)[:, np.newaxis])


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
