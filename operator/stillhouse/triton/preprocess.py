"""A chain of declared steps as a model of its own in a repository."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from stillhouse.triton.model_config import RenderedModel

if TYPE_CHECKING:  # it loads numpy, and rendering needs none
    from stillhouse.inference.datatypes import TensorSpec

__all__ = ["chain_model"]

CHAIN_FILE = "preprocess.json"


def chain_model(
    name: str,
    inputs: Collection[TensorSpec],
    outputs: Collection[TensorSpec],
    *,
    files: Collection[str] = (),
    workers: int = 1,
    allowed: Collection[str] = (),
) -> RenderedModel:
    """Return the model `name` of backend `stillhouse_preprocess`, without batching: a step may give more rows than it takes.

    `inputs` and `outputs` are the chain's. Its version folder holds `preprocess.json` and `files` (a tokenizer). `allowed` are
    packages whose functions `python` steps may call there.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    config = pb.ModelConfig(name=name, backend="stillhouse_preprocess", max_batch_size=0)
    for tensors, specs in ((config.input, inputs), (config.output, outputs)):
        for spec in specs:
            tensors.add(name=spec.name, data_type=_type(spec.datatype, pb), dims=spec.shape)
    config.instance_group.add(name=name, kind=pb.ModelInstanceGroup.KIND_CPU, count=workers)
    config.parameters["stillhouse.allowed"].string_value = ",".join(sorted(allowed))
    return RenderedModel(name, text_format.MessageToString(config, as_utf8=True), (CHAIN_FILE, *files))


def _type(datatype: str, pb: Any) -> int:
    return int(pb.DataType.Value("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"))
