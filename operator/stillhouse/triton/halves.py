"""The upper half of a cut model as a model of its own beside the whole one, `NAME_upper`, batched as that is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from stillhouse.triton.model_config import add_batching
from stillhouse.triton.profile import choose
from stillhouse.triton.repository import LinkTo
from stillhouse.triton.runtimes import Runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

if TYPE_CHECKING:  # it loads numpy, and rendering needs none
    from stillhouse.inference.datatypes import TensorSpec

__all__ = ["FILES", "upper"]

FILES = ("upper.onnx", "cut.json", "signature.json")


def upper(
    artifact: ArtifactView,
    name: str,
    tensors: tuple[TensorSpec, ...],
    output: str,
    folder: Path,
    runtime: Runtime,
    serve: ServeSettings,
    cpus: float,
) -> Mapping[str, bytes | LinkTo]:
    """Return the entries of the repository: model `name` of backend `stillhouse_half`.

    Args:
        artifact: the whole model.
        name: the half's.
        tensors: what it is sent, rows first; places of any length may differ between the requests of a batch.
        output: its one output, FP32 [n, width].
        folder: the cut's artifact; its files become links.
        runtime: which Triton.
        serve: batching, queue and instances, as the whole model has them.
        cpus: CPUs available.
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    profile = choose(cpus, artifact.model_bytes, serve.instances, serve.threads)
    config = pb.ModelConfig(name=name, backend="stillhouse_half", max_batch_size=serve.max_batch_size)
    for each in tensors:
        kind = pb.DataType.Value(f"TYPE_{each.datatype}")
        config.input.add(name=each.name, data_type=kind, dims=each.shape[1:], allow_ragged_batch=-1 in each.shape[1:])
    signature = artifact.signature
    config.output.add(name=output, data_type=pb.TYPE_FP32, dims=[len(signature.labels) or signature.dimension])
    config.instance_group.add(name=name, kind=pb.ModelInstanceGroup.KIND_CPU, count=profile.instances)
    add_batching(config, runtime, serve)
    config.parameters["stillhouse.digest"].string_value = artifact.digest
    config.parameters["stillhouse.threads"].string_value = str(profile.threads)
    root = PurePosixPath(name)
    entries: dict[str, bytes | LinkTo] = {
        str(root / "config.pbtxt"): text_format.MessageToString(config, as_utf8=True).encode("utf-8")
    }
    for file in FILES:
        entries[str(root / runtime.model_folder / file)] = LinkTo(folder / file)
    return entries
