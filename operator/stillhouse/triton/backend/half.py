"""The upper half of a cut model: `backends/stillhouse_half/model.py`, run by Triton's Python backend."""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

for _folder in reversed(os.environ.get("STILLHOUSE_PYTHONPATH", "").split(os.pathsep)):
    if _folder and _folder not in sys.path:
        sys.path.insert(0, _folder)

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from stillhouse.errors import StillhouseError  # noqa: E402
from stillhouse.inference.halves import HalfSession, sent, unpacked  # noqa: E402
from stillhouse.inference.signature import Signature  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load `upper.onnx`."""
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        threads = config.get("parameters", {}).get("stillhouse.threads", {}).get("string_value", "1")
        self.session = HalfSession(folder, "upper", int(threads))
        self.cut = self.session.cut
        self.sent = sent(self.cut)
        self.longest = Signature.read(folder).max_length

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer all requests of one batch: those of equal shapes with one run. What is wrong with one is that one's error."""
        responses: list[Any] = [None] * len(requests)
        alike: defaultdict[tuple[Any, ...], list[tuple[int, dict[str, Any]]]] = defaultdict(list)
        for position, request in enumerate(requests):
            given = {each.name: pb_utils.get_input_tensor_by_name(request, each.name).as_numpy() for each in self.sent}
            try:
                tensors = unpacked(self.cut, given)
            except StillhouseError as error:
                responses[position] = _failure(str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            open_ends = [given[each.name].shape[1:] for each in self.sent if -1 in each.shape[1:]]
            if self.longest and any(size > self.longest for shape in open_ends for size in shape[:1]):
                text = f"a row has more tokens than {self.longest}"
                responses[position] = _failure(text, pb_utils.TritonError.INVALID_ARG)
                continue
            alike[tuple(tensors[name].shape[1:] for name in self.cut.upper)].append((position, tensors))
        for group in alike.values():
            self._answer(group, responses)
        return responses

    def _answer(self, group: list[tuple[int, dict[str, Any]]], responses: list[Any]) -> None:
        ends = np.cumsum([len(next(iter(tensors.values()))) for _, tensors in group])[:-1]
        try:
            feed = {name: np.concatenate([tensors[name] for _, tensors in group]) for name in self.cut.upper}
            values = self.session.run(feed)[self.cut.output]
        except Exception as error:  # ONNX Runtime has one exception class per status code, without a common base
            for position, _ in group:
                responses[position] = _failure(f"{error}".splitlines()[0][:300], pb_utils.TritonError.INTERNAL)
            return
        for (position, _), part in zip(group, np.split(values, ends), strict=True):
            responses[position] = pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self.cut.output, part)])


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
