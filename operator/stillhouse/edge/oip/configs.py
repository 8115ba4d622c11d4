"""The part of Triton's model configuration that a gateway reads and writes by itself; all of it is in `rest.model_config`.

Tests hold it against tritonclient's messages.
"""

from __future__ import annotations

import json
from typing import Any

from stillhouse.edge.oip.tables import Protocol, parsed

__all__ = ["CONFIG", "TYPES", "columns_in", "labels_in", "own"]

_NAMES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES", "BF16",
)  # fmt: skip
TYPES = {name: number for number, name in enumerate(_NAMES, 1)}
"""The protocol's name of a type → its number in a configuration."""

CONFIG = Protocol(
    "config.proto",
    "inference",
    """
ModelConfigRequest name=1:string version=2:string
ModelConfigResponse config=1:ModelConfig
ModelConfig name=1:string platform=2:string max_batch_size=4:int32 input=5:*ModelInput output=6:*ModelOutput parameters=14:map:ModelParameter
ModelInput name=1:string data_type=2:DataType dims=4:*int64 optional=8:bool
ModelOutput name=1:string data_type=2:DataType dims=3:*int64
ModelParameter string_value=1:string
enum DataType TYPE_INVALID=0 TYPE_BOOL=1 TYPE_UINT8=2 TYPE_UINT16=3 TYPE_UINT32=4 TYPE_UINT64=5 TYPE_INT8=6 TYPE_INT16=7 TYPE_INT32=8 TYPE_INT64=9 TYPE_FP16=10 TYPE_FP32=11 TYPE_FP64=12 TYPE_STRING=13 TYPE_BF16=14
""",  # noqa: E501 - one message a line
    {},
)


def labels_in(response: bytes) -> Any:
    """Return what a `ModelConfigResponse` says of the classes' names, as our own models tell them; None where it does not.

    Raises:
        RpcError: it is no such response. ValueError: what it says is no JSON.
    """
    return _told(response, "stillhouse.labels")


def columns_in(response: bytes) -> list[str]:
    """Return what a `ModelConfigResponse` says of a table's columns, as our own models tell them; none where it does not.

    Raises:
        RpcError: it is no such response. ValueError: what it says is no JSON.
    """
    told = _told(response, "stillhouse.features")
    columns = told.get("columns") if isinstance(told, dict) else None
    return [str(each) for each in columns] if isinstance(columns, list) else []


def _told(response: bytes, name: str) -> Any:
    parameters = parsed(CONFIG.message("ModelConfigResponse"), response).config.parameters
    if name not in parameters:
        return None
    try:
        return json.loads(parameters[name].string_value)
    except RecursionError as error:
        raise ValueError(f"what it says of {name} is nested without end") from error


def own(config: Any, about: Any) -> Any:
    """Return a `ModelConfigResponse` for what stands before a model, or around it.

    `config`: the model's own `ModelConfig`, of which the size of a batch and our parameters (labels, task, digest) are kept.
    `about`: the `ModelMetadataResponse` of the whole, whose name, platform, inputs and outputs it gets.
    """
    response = CONFIG.message("ModelConfigResponse")()
    made = response.config
    made.name, made.platform, made.max_batch_size = about.name, about.platform, config.max_batch_size
    batched = config.max_batch_size > 0
    for tensors, told in ((about.inputs, made.input), (about.outputs, made.output)):
        for each in tensors:
            # Of a model that batches, the first dimension is not written down.
            told.add(name=each.name, data_type=TYPES.get(each.datatype, 0), dims=each.shape[1:] if batched else each.shape)
    for key, value in config.parameters.items():
        if key.startswith("stillhouse."):
            made.parameters[key].CopyFrom(value)
    return response
