"""The protocol's protobuf messages, built from a table of their numbers.

Neither a generated module nor Triton's client is needed at the edge. The numbers are those of the Open Inference Protocol
(version 2) with Triton's extensions for statistics, repository index and streams; a test holds the table against tritonclient's
messages. The descriptors live in a pool of their own, so that a process may load tritonclient too.
"""

from __future__ import annotations

from typing import Any

from stillhouse.edge.oip.tables import Protocol

__all__ = ["METHODS", "OIP", "SERVICE", "message", "value_of"]

SERVICE = "inference.GRPCInferenceService"
_TABLE = """
ServerLiveRequest
ServerLiveResponse live=1:bool
ServerReadyRequest
ServerReadyResponse ready=1:bool
ModelReadyRequest name=1:string version=2:string
ModelReadyResponse ready=1:bool
ServerMetadataRequest
ServerMetadataResponse name=1:string version=2:string extensions=3:*string
ModelMetadataRequest name=1:string version=2:string
ModelMetadataResponse name=1:string versions=2:*string platform=3:string inputs=4:*ModelMetadataResponse.TensorMetadata outputs=5:*ModelMetadataResponse.TensorMetadata
ModelMetadataResponse.TensorMetadata name=1:string datatype=2:string shape=3:*int64
InferParameter bool_param=1:bool int64_param=2:int64 string_param=3:string double_param=4:double uint64_param=5:uint64 one-of:parameter_choice
InferTensorContents bool_contents=1:*bool int_contents=2:*int32 int64_contents=3:*int64 uint_contents=4:*uint32 uint64_contents=5:*uint64 fp32_contents=6:*float fp64_contents=7:*double bytes_contents=8:*bytes
ModelInferRequest model_name=1:string model_version=2:string id=3:string parameters=4:map:InferParameter inputs=5:*ModelInferRequest.InferInputTensor outputs=6:*ModelInferRequest.InferRequestedOutputTensor raw_input_contents=7:*bytes
ModelInferRequest.InferInputTensor name=1:string datatype=2:string shape=3:*int64 parameters=4:map:InferParameter contents=5:InferTensorContents
ModelInferRequest.InferRequestedOutputTensor name=1:string parameters=2:map:InferParameter
ModelInferResponse model_name=1:string model_version=2:string id=3:string parameters=4:map:InferParameter outputs=5:*ModelInferResponse.InferOutputTensor raw_output_contents=6:*bytes
ModelInferResponse.InferOutputTensor name=1:string datatype=2:string shape=3:*int64 parameters=4:map:InferParameter contents=5:InferTensorContents
ModelStreamInferResponse error_message=1:string infer_response=2:ModelInferResponse
ModelStatisticsRequest name=1:string version=2:string
StatisticDuration count=1:uint64 ns=2:uint64
InferStatistics success=1:StatisticDuration fail=2:StatisticDuration queue=3:StatisticDuration compute_input=4:StatisticDuration compute_infer=5:StatisticDuration compute_output=6:StatisticDuration cache_hit=7:StatisticDuration cache_miss=8:StatisticDuration
InferResponseStatistics compute_infer=1:StatisticDuration compute_output=2:StatisticDuration success=3:StatisticDuration fail=4:StatisticDuration empty_response=5:StatisticDuration cancel=6:StatisticDuration
InferBatchStatistics batch_size=1:uint64 compute_input=2:StatisticDuration compute_infer=3:StatisticDuration compute_output=4:StatisticDuration
MemoryUsage type=1:string id=2:int64 byte_size=3:uint64
ModelStatistics name=1:string version=2:string last_inference=3:uint64 inference_count=4:uint64 execution_count=5:uint64 inference_stats=6:InferStatistics batch_stats=7:*InferBatchStatistics memory_usage=8:*MemoryUsage response_stats=9:map:InferResponseStatistics
ModelStatisticsResponse model_stats=1:*ModelStatistics
RepositoryIndexRequest repository_name=1:string ready=2:bool
RepositoryIndexResponse models=1:*RepositoryIndexResponse.ModelIndex
RepositoryIndexResponse.ModelIndex name=1:string version=2:string state=3:string reason=4:string
"""  # noqa: E501 - one message a line
METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelStatistics",
    "RepositoryIndex",
)  # fmt: skip
"""Unary methods `M` that take `MRequest` and give `MResponse`. `ModelStreamInfer` is beside them."""

OIP = Protocol(
    "open_inference.proto",
    "inference",
    _TABLE,
    {
        "GRPCInferenceService": (
            *((name, f"{name}Request", f"{name}Response", False, False) for name in METHODS),
            ("ModelStreamInfer", "ModelInferRequest", "ModelStreamInferResponse", True, True),
        )
    },
)


def message(name: str) -> Any:
    """Return the class of a message of package `inference`, such as `ModelInferRequest`."""
    return OIP.message(name)


def value_of(parameter: Any) -> Any:
    """Return what an `InferParameter` holds, None where it holds nothing."""
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None
