"""The Open Inference Protocol over gRPC, as `InferenceClient`.

It speaks through the protocol's generated stubs with raw tensor contents, which costs less per request than building
`InferInput` objects; any other client of the protocol works as well (docs/wire-contract.md).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from stillhouse.clients.inference import Answer, ModelStatistics, ServerInfo
from stillhouse.errors import DataError, MissingPackages, QueueRefusal, ServerError, StillhouseError
from stillhouse.extras import install

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["TritonClient", "channel_options", "pack_strings", "unpack_strings"]

# As documented for every client: three retries, of UNAVAILABLE only, with growing pauses (gRPC adds jitter of its own).
RETRIES = 3
_MAX_MESSAGE = 64 << 20
# What Triton 2.51 says, in small letters, where the queue policy refuses: it has no status codes of their own.
_REFUSALS: dict[str, Literal["size", "timeout"]] = {"exceeds maximum queue size": "size", "timeout expired": "timeout"}


def channel_options(retries: int = RETRIES) -> list[tuple[str, Any]]:
    """Return the gRPC channel options of the documented client: `round_robin`, retries for UNAVAILABLE."""
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retries:
        config["methodConfig"] = [
            {
                "name": [{"service": "inference.GRPCInferenceService"}],
                "retryPolicy": {
                    "maxAttempts": retries + 1,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 3,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    return [
        ("grpc.service_config", json.dumps(config)),
        # Also without a policy: a request that never reached a server which is closing its connection is sent again.
        ("grpc.enable_retries", 1),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.initial_reconnect_backoff_ms", 50),
        # This is also the shortest time that a connection attempt is given: a small one fails on a busy machine.
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Connections end every ten seconds, and the name is asked anew then, but no sooner than this (30 s by default): new pods
        # of a model that scales get their share the earlier.
        ("grpc.dns_min_time_between_resolutions_ms", 5000),
        # Two clients of one process must not share a connection: a hand-over is seen on the first new connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def pack_strings(values: Sequence[bytes]) -> bytes:
    """Return a BYTES tensor's raw contents: every element behind its length as four little-endian bytes."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def unpack_strings(raw: bytes) -> list[bytes]:
    """Undo `pack_strings`."""
    values = []
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        values.append(raw[at + 4 : at + 4 + length])
        at += 4 + length
    return values


class TritonClient:
    """A client of one Triton server (see `InferenceClient`)."""

    def __init__(self, address: str, *, timeout_s: float = 30.0, retries: int = RETRIES) -> None:
        """Open a channel to `address` (host:port); nothing is sent yet.

        Args:
            address: host and port of the gRPC endpoint.
            timeout_s: deadline of every call, retries included, in seconds.
            retries: how often a call that was answered UNAVAILABLE is sent again.

        Raises:
            MissingPackages: grpcio or tritonclient is not installed.
        """
        try:
            import grpc
            from tritonclient.grpc import service_pb2, service_pb2_grpc
        except ImportError as error:
            raise MissingPackages("talking to Triton needs gRPC", found=str(error), fix=install("serve")) from error
        self._grpc = grpc
        self._pb = service_pb2
        self.address = address
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=channel_options(retries))
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer_texts(self, model: str, texts: Sequence[str], *, provenance: bool = False) -> Answer:
        """Answer texts, one row each, in one request.

        Raises:
            DataError: a text holds what UTF-8 has no form for, as an argument in another encoding does.
        """
        try:
            raw = pack_strings([text.encode("utf-8") for text in texts])
        except UnicodeEncodeError as error:
            raise DataError(
                "a text is not UTF-8",
                field="TEXT",
                found=error.object.encode("utf-8", "backslashreplace").decode()[:80],
                allowed="text in UTF-8",
                fix="convert it: iconv -f ENCODING -t UTF-8",
            ) from error
        return self._infer(model, "TEXT", "BYTES", [len(texts), 1], raw, provenance=provenance)

    def infer_images(self, model: str, images: npt.NDArray[np.float32], *, provenance: bool = False) -> Answer:
        """Answer images, float32 [n, channels, height, width] in [0, 1], in one request."""
        return self._infer_numbers(model, "IMAGE", images, provenance)

    def infer_features(self, model: str, features: npt.NDArray[np.float32], *, provenance: bool = False) -> Answer:
        """Answer rows of a table, float32 [n, columns], or windows of time series, [n, length, channels], in one request."""
        return self._infer_numbers(model, "FEATURES", features, provenance)

    def ready(self, model: str = "") -> bool:
        """Return whether the server (and the model, where one is named) takes requests; False when unreachable."""
        timeout = min(self.timeout_s, 2.0)
        try:
            if not self._stub.ServerReady(self._pb.ServerReadyRequest(), timeout=timeout).ready:
                return False
            if not model:
                return True
            return bool(self._stub.ModelReady(self._pb.ModelReadyRequest(name=model), timeout=timeout).ready)
        except self._grpc.RpcError:
            return False

    def statistics(self, model: str) -> ModelStatistics:
        """Return the model's counters."""
        reply = self._call(self._stub.ModelStatistics, self._pb.ModelStatisticsRequest(name=model))
        stats = reply.model_stats[0]
        inference = stats.inference_stats
        return ModelStatistics(
            requests_ok=inference.success.count,
            requests_failed=inference.fail.count,
            inferences=stats.inference_count,
            executions=stats.execution_count,
            queue_ns=inference.queue.ns,
            compute_ns=inference.compute_input.ns + inference.compute_infer.ns + inference.compute_output.ns,
            total_ns=inference.success.ns,
            batch_sizes={int(batch.batch_size): int(batch.compute_infer.count) for batch in stats.batch_stats},
        )

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters of the model's configuration: contract version, digest, labels, and so on."""
        reply = self._call(self._stub.ModelConfig, self._pb.ModelConfigRequest(name=model))
        return {key: value.string_value for key, value in reply.config.parameters.items()}

    def server(self) -> ServerInfo:
        """Return what the server says of itself."""
        reply = self._call(self._stub.ServerMetadata, self._pb.ServerMetadataRequest())
        return ServerInfo(reply.name, reply.version, tuple(reply.extensions))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _infer_numbers(self, model: str, name: str, values: npt.NDArray[np.float32], provenance: bool) -> Answer:
        import numpy as np

        raw = np.ascontiguousarray(values, dtype="<f4").tobytes()
        return self._infer(model, name, "FP32", list(values.shape), raw, provenance=provenance)

    def _infer(self, model: str, name: str, datatype: str, shape: list[int], raw: bytes, *, provenance: bool) -> Answer:
        request = self._pb.ModelInferRequest(model_name=model)
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
        if provenance:
            request.parameters["provenance"].bool_param = True
        reply = self._call(self._stub.ModelInfer, request)
        return _answer(reply)

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout_s)
        except self._grpc.RpcError as error:
            raise self._explain(error) from None

    def _explain(self, error: Any) -> StillhouseError:
        code, details = error.code(), error.details() or ""
        status = self._grpc.StatusCode
        if code is status.INVALID_ARGUMENT:
            return DataError("the server refused the request", found=details)
        if code is status.NOT_FOUND:
            return ServerError("the server does not serve this model", field=self.address, found=details)
        if code is status.DEADLINE_EXCEEDED:
            return ServerError("no answer in time", field=self.address, found=f"{self.timeout_s:g} s passed", fix="still status")
        if code is status.UNAVAILABLE:
            limit = next((limit for words, limit in _REFUSALS.items() if words in details.lower()), None)
            if limit is not None:
                refusal = QueueRefusal(
                    "the server takes no more requests", field=self.address, found=details, fix="ask again: the queue empties"
                )
                refusal.limit = limit
                return refusal
            return ServerError(
                "the server is not reachable",
                field=self.address,
                found=details,
                fix="still status; a stopped server starts with: still up FILE",
            )
        return ServerError("the server answered with an error", field=self.address, found=f"{code.name}: {details}")


def _answer(reply: Any) -> Answer:
    import numpy as np
    from tritonclient.utils import triton_to_np_dtype

    found: dict[str, Any] = {}
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        if output.datatype == "BYTES":
            found[output.name] = [value.decode("utf-8") for value in unpack_strings(raw)]
        else:
            found[output.name] = np.frombuffer(raw, dtype=triton_to_np_dtype(output.datatype)).reshape(tuple(output.shape))
    rows = found.pop("PROVENANCE", None)
    return Answer(
        embeddings=found.pop("EMBEDDING", None),
        labels=found.pop("LABEL", None),
        probabilities=found.pop("PROBABILITIES", None),
        provenance=[json.loads(row) for row in rows] if rows is not None else None,
        steps=found,
    )
