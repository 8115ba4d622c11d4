"""What comes before the model of an ensemble: `backends/stillhouse_pre/model.py`, run by Triton's Python backend.

Texts to token ids, padded to a few lengths; images normalised; features checked. See `model.py` beside it, which does all in one.
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
from stillhouse.inference.arrays import prepared  # noqa: E402
from stillhouse.inference.feed import padded_length, text_feed  # noqa: E402
from stillhouse.inference.signature import Signature  # noqa: E402
from stillhouse.inference.text import TOKENIZER_FILE, TextEncoder, decode_utf8  # noqa: E402


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self.signature = Signature.read(folder)
        self.encoder = (
            TextEncoder(folder / TOKENIZER_FILE, self.signature.max_length, self.signature.tokenizer_digest)
            if self.signature.takes_texts
            else None
        )
        names = ("contract", "digest", "precision", "variant")
        self.identity = {name: parameters.get(f"stillhouse.{name}", "") for name in names}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request by itself; what is wrong with one becomes its own error."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            feed, cut = self._texts(request) if self.encoder else self._arrays(request)
        except StillhouseError as error:
            failure = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(output_tensors=[], error=failure)
        tensors = [pb_utils.Tensor(name, values) for name, values in feed.items()]
        if "PROVENANCE" in request.requested_output_names():
            rows = [json.dumps({**self.identity, "truncated": tokens}, sort_keys=True).encode() for tokens in cut]
            tensors.append(pb_utils.Tensor("PROVENANCE", np.array(rows, dtype=object)[:, np.newaxis]))
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _texts(self, request: Any) -> tuple[dict[str, npt.NDArray[Any]], list[int]]:
        assert self.encoder is not None  # asked before
        array = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        count = "PROVENANCE" in request.requested_output_names()
        encoded = self.encoder.encode(decode_utf8(array.ravel().tolist(), "TEXT"), count=count)
        longest = padded_length(max(encoded.lengths), self.signature.max_length)
        feed = text_feed(self.signature.inputs, encoded.ids, encoded.lengths, longest, self.signature.pad_id)
        return feed, encoded.cut

    def _arrays(self, request: Any) -> tuple[dict[str, npt.NDArray[Any]], list[int]]:
        given = pb_utils.get_input_tensor_by_name(request, self.signature.tensor).as_numpy()
        return {self.signature.inputs[0]: prepared(given, self.signature)}, [0] * len(given)
