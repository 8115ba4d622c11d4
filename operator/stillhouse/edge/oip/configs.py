"""The part of Triton's model configuration that a gateway reads and writes by itself; all of it is in `rest.model_config`.

Tests hold it against tritonclient's messages.
"""

from __future__ import annotations

from stillhouse.edge.oip.tables import Protocol

__all__ = ["CONFIG"]

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
