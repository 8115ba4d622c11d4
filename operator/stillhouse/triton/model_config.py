"""config.pbtxt, built as Triton's own protobuf message and printed by protobuf: a field that Triton lacks cannot be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.inference.signature import Signature
from stillhouse.triton.profile import Profile
from stillhouse.triton.runtimes import Runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

__all__ = [
    "CONTRACT_VERSION", "LABELS_FILE", "NEXT", "TENSORS", "RenderedModel",
    "add_batching", "add_input", "add_parameters", "add_tensors", "config_text",
]  # fmt: skip

# docs/wire-contract.md. Raised when a client of the former version would be answered differently.
CONTRACT_VERSION = "1"
LABELS_FILE = "labels.txt"
NEXT = ".next"
"""End of the name under which our backends give a tensor a second time, for the next step of a pipeline."""
# Names of the tensors, in one place for the backend's configuration, the client and the tests.
TENSORS = {
    "text": "TEXT",
    "ids": "input_ids",
    "mask": "attention_mask",
    "image": "IMAGE",
    "features": "FEATURES",
    "embedding": "EMBEDDING",
    "label": "LABEL",
    "probabilities": "PROBABILITIES",
    "provenance": "PROVENANCE",
}


@dataclass(frozen=True, slots=True)
class RenderedModel:
    """One model of a repository: its config.pbtxt, and which of the artifact's files lie in its version folder.

    `renamed`: name in the version folder → the artifact's name of it, where they differ.
    """

    name: str
    config: str
    files: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)


def config_text(artifact: ArtifactView, runtime: Runtime, serve: ServeSettings, profile: Profile) -> str:
    """Return the text of config.pbtxt.

    Needs tritonclient's generated `model_config_pb2` (protobuf only; nothing of gRPC is opened).
    """
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    config = pb.ModelConfig(name=artifact.name, backend=runtime.backend, max_batch_size=serve.max_batch_size)
    add_tensors(config, artifact, pb)
    if artifact.signature.takes_texts:
        _add_tokens(config, pb)
    config.instance_group.add(
        name=artifact.name,
        kind=pb.ModelInstanceGroup.KIND_CPU if runtime.accelerator == "cpu" else pb.ModelInstanceGroup.KIND_GPU,
        count=profile.instances,
    )
    add_batching(config, runtime, serve)
    if serve.response_cache:
        config.response_cache.enable = True
    if serve.warmup and artifact.signature.takes_texts:
        _warmup(config, pb)
    add_parameters(config, artifact, serve, profile.threads)
    text: str = text_format.MessageToString(config, as_utf8=True)
    return text


def add_tensors(config: Any, artifact: ArtifactView, pb: Any) -> None:
    """Add the inputs and outputs of the wire contract."""
    signature = artifact.signature
    add_input(config, signature, pb)
    if signature.task == "sentence-embedding":
        config.output.add(name=TENSORS["embedding"], data_type=pb.TYPE_FP32, dims=[signature.dimension])
    else:
        config.output.add(name=TENSORS["label"], data_type=pb.TYPE_STRING, dims=[1])
        config.output.add(
            name=TENSORS["probabilities"],
            data_type=pb.TYPE_FP32,
            dims=[len(signature.labels)],
            label_filename=LABELS_FILE,
        )
    config.output.add(name=TENSORS["provenance"], data_type=pb.TYPE_STRING, dims=[1])
    for tensor in [each for each in config.output if each.name in artifact.twice]:
        config.output.add(name=tensor.name + NEXT, data_type=tensor.data_type, dims=tensor.dims)


def add_input(config: Any, signature: Signature, pb: Any) -> None:
    """Add what a client sends: a text a row, or an array."""
    if signature.takes_texts:
        config.input.add(name=signature.tensor, data_type=pb.TYPE_STRING, dims=[1])
    else:
        config.input.add(name=signature.tensor, data_type=pb.TYPE_FP32, dims=signature.shape)


def _add_tokens(config: Any, pb: Any) -> None:
    """Let a client send token ids instead of texts. Ragged: rows of any length share a batch, as texts do."""
    config.input[0].optional = True
    for name in (TENSORS["ids"], TENSORS["mask"]):
        config.input.add(name=name, data_type=pb.TYPE_INT64, dims=[-1], allow_ragged_batch=True, optional=True)


def add_batching(config: Any, runtime: Runtime, serve: ServeSettings) -> None:
    """Turn dynamic batching on, with the queue policy that is asked for."""
    batching = config.dynamic_batching
    batching.SetInParent()  # present even when every field has its default: that is what turns batching on
    preferred = serve.preferred_batch_sizes
    if preferred is None:
        own = runtime.preferred_batch_size
        preferred = (own,) if 0 < own < serve.max_batch_size else ()
    batching.preferred_batch_size.extend(preferred)
    batching.max_queue_delay_microseconds = serve.max_queue_delay_us
    if serve.max_queue_size or serve.queue_timeout_us:
        # Without a policy the message must stay absent: its mere presence with a limit turns Triton's prefetching off.
        policy = batching.default_queue_policy
        policy.timeout_action = type(policy).REJECT
        policy.default_timeout_microseconds = serve.queue_timeout_us
        policy.allow_timeout_override = True
        policy.max_queue_size = serve.max_queue_size


def _warmup(config: Any, pb: Any) -> None:
    """Send one text through the whole path before the server says it is ready, to every instance."""
    warmup = config.model_warmup.add(name="one-text", batch_size=1, count=1)
    source = warmup.inputs[TENSORS["text"]]
    source.data_type = pb.TYPE_STRING
    source.dims.append(1)
    source.zero_data = True  # of a string tensor: empty strings


def add_parameters(config: Any, artifact: ArtifactView, serve: ServeSettings, threads: int) -> None:
    """Add what a client may read by ModelConfig and what the backend is told: strings, in the order of their keys."""
    values = {
        **artifact.signature.parameters(),
        "stillhouse.contract": CONTRACT_VERSION,
        "stillhouse.digest": artifact.digest,
        "stillhouse.precision": artifact.precision,
        "stillhouse.threads": str(threads),
        "stillhouse.variant": artifact.variant,
        "stillhouse.warmup_rows": str(serve.max_batch_size if serve.warmup else 0),
    }
    for key, value in sorted(values.items()):
        config.parameters[key].string_value = value
