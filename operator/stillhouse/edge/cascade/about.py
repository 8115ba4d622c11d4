"""What a cascade says of itself under its public name: the model that it stands for, and what may be asked for beside."""

from __future__ import annotations

import json
import math
from typing import Any

from stillhouse.edge.cascade.figures import Figures
from stillhouse.edge.cascade.question import (
    CONFIDENCE,
    EMBEDDING,
    LABEL,
    LEG,
    NEIGHBOR,
    PROBABILITIES,
    PROVENANCE,
    SCORE,
    Reader,
)
from stillhouse.edge.oip.configs import CONFIG
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tables import parsed
from stillhouse.edge.status import Code, RpcError
from stillhouse.inference.signature import Signature
from stillhouse.triton.model_config import CONTRACT_VERSION

__all__ = ["CONFIG", "About"]

PLATFORM = "stillhouse_cascade"
_TYPES = {"BYTES": 13, "FP32": 11}


class About:
    """Answers `ModelReady`, `ModelMetadata`, `ModelConfig` and `ModelStatistics`.

    `width`: of an answer's values, -1 where it is the leg's. `k`: neighbours, 0 without an index. `legs`: their names in order.
    """

    def __init__(
        self,
        model: str,
        signature: Signature,
        reader: Reader,
        *,
        width: int,
        k: int,
        most_rows: int,
        variant: str,
        digest: str,
        threshold: float,
        legs: tuple[str, ...],
    ) -> None:
        own = signature.shape or (1,)
        self._inputs = [(signature.tensor, "BYTES" if signature.takes_texts else "FP32", own)]
        shapes = {
            EMBEDDING: ("FP32", width), PROBABILITIES: ("FP32", width), LABEL: ("BYTES", 1), PROVENANCE: ("BYTES", 1),
            NEIGHBOR: ("BYTES", k), SCORE: ("FP32", k), CONFIDENCE: ("FP32", 1), LEG: ("BYTES", 1),
        }  # fmt: skip
        self._outputs = [(name, shapes[name][0], (shapes[name][1],)) for name in reader.known]
        self._model, self._most = model, most_rows
        self._parameters = {
            **signature.parameters(),
            "stillhouse.cascade.legs": json.dumps(legs),
            "stillhouse.cascade.threshold": json.dumps(threshold if math.isfinite(threshold) else None),
            "stillhouse.contract": CONTRACT_VERSION,
            "stillhouse.digest": digest,
            "stillhouse.variant": variant,
        }

    def answer(self, method: str, body: bytes, *, ready: bool, figures: Figures) -> bytes:
        """Return the answer to one of the four methods.

        Raises:
            RpcError: UNIMPLEMENTED for any other one; NOT_FOUND for another version than 1.
        """
        name = method.removeprefix(f"/{SERVICE}/")
        made: dict[str, Any] = {
            "ModelReady": lambda: message("ModelReadyResponse")(ready=ready),
            "ModelMetadata": self._metadata,
            "ModelConfig": self._config,
            "ModelStatistics": lambda: self._statistics(figures),
        }
        if name not in made:
            raise RpcError(Code.UNIMPLEMENTED, f"a cascade has no method {name[:100]}")
        request = parsed(message("ModelMetadataRequest"), body)
        if request.version not in ("", "1"):
            raise RpcError(Code.NOT_FOUND, f"there is no version {request.version[:20]!r}; there is 1")
        return bytes(made[name]().SerializeToString())

    def _metadata(self) -> Any:
        response = message("ModelMetadataResponse")(name=self._model, versions=["1"], platform=PLATFORM)
        for tensors, told in ((self._inputs, response.inputs), (self._outputs, response.outputs)):
            for name, datatype, shape in tensors:
                told.add(name=name, datatype=datatype, shape=[-1, *shape])
        return response

    def _config(self) -> Any:
        response = CONFIG.message("ModelConfigResponse")()
        config = response.config
        config.name, config.platform, config.max_batch_size = self._model, PLATFORM, self._most
        for tensors, told in ((self._inputs, config.input), (self._outputs, config.output)):
            for name, datatype, shape in tensors:
                told.add(name=name, data_type=_TYPES[datatype], dims=shape)
        for key, value in self._parameters.items():
            config.parameters[key].string_value = value
        return response

    def _statistics(self, figures: Figures) -> Any:
        response = message("ModelStatisticsResponse")()
        one = response.model_stats.add(name=self._model, version="1")
        one.inference_count, one.execution_count = figures.rows, figures.requests
        one.inference_stats.success.count = figures.requests
        one.inference_stats.success.ns = int(figures.request_seconds * 1e9)
        one.inference_stats.fail.count = figures.errors
        one.inference_stats.fail.ns = int(figures.error_seconds * 1e9)
        return response
