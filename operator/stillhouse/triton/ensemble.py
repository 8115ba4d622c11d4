"""An ensemble: our Python backend before and after the model, and the model itself in a backend of its own, on a GPU.

`pre` → `model` → `post` (of classifiers), under the wire contract of the whole. Requests batch at each step by themselves; at the
model those of one shape, so `pre` pads texts to a few lengths (inference/feed.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillhouse.inference.feed import SHORTEST
from stillhouse.inference.signature import SIGNATURE_FILE, Signature
from stillhouse.triton.model_config import TENSORS, RenderedModel, add_batching, add_input, add_parameters, add_tensors
from stillhouse.triton.profile import choose
from stillhouse.triton.runtimes import Runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

__all__ = ["LOGITS", "PARTS", "ensemble"]

PARTS = ("pre", "model", "post")
LOGITS = "LOGITS"
"""What `post` is given."""
_OPTIMAL_ROWS, _OPTIMAL_TOKENS = 8, 32
"""What TensorRT tunes its kernels for; every shape within the limits is answered."""
_TRT_PRECISION = {"fp32": "FP32", "fp16": "FP16"}


def ensemble(artifact: ArtifactView, runtime: Runtime, serve: ServeSettings, cpus: float) -> Iterator[RenderedModel]:
    """Yield the ensemble, under the artifact's name, and its parts."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    signature = artifact.signature
    workers = choose(cpus, threads=1).instances
    classifies = bool(signature.labels)
    needed = (SIGNATURE_FILE, "tokenizer.json") if signature.takes_texts else (SIGNATURE_FILE,)

    def rendered(config: Any, *files: str) -> RenderedModel:
        return RenderedModel(config.name, text_format.MessageToString(config, as_utf8=True), files)

    # The signature only because Triton asks for a version folder, and a folder without a file is none.
    yield rendered(_whole(artifact, serve, classifies, pb), SIGNATURE_FILE)
    yield rendered(_pre(artifact, serve, workers, pb), *needed)
    yield rendered(_model(artifact, runtime, serve, pb), "model.onnx")
    if classifies:
        yield rendered(_post(artifact, serve, max(1, workers // 2), pb), SIGNATURE_FILE)


def _named(artifact: ArtifactView, part: str) -> str:
    return f"{artifact.name}_{part}"


def _inner(name: str) -> str:
    """Return the ensemble's name of a tensor between its parts: a model's own may be that of an input of the whole."""
    return f"model.{name}"


def _config(artifact: ArtifactView, serve: ServeSettings, part: str, pb: Any, *, backend: str) -> Any:
    return pb.ModelConfig(name=_named(artifact, part), backend=backend, max_batch_size=serve.max_batch_size)


def _whole(artifact: ArtifactView, serve: ServeSettings, classifies: bool, pb: Any) -> Any:
    signature = artifact.signature
    config = pb.ModelConfig(name=artifact.name, platform="ensemble", max_batch_size=serve.max_batch_size)
    add_tensors(config, artifact, pb)
    scheduling = config.ensemble_scheduling
    pre = scheduling.step.add(model_name=_named(artifact, "pre"), model_version=-1)
    pre.input_map[signature.tensor] = signature.tensor
    for name in signature.inputs:
        pre.output_map[name] = _inner(name)
    pre.output_map[TENSORS["provenance"]] = TENSORS["provenance"]
    model = scheduling.step.add(model_name=_named(artifact, "model"), model_version=-1)
    for name in signature.inputs:
        model.input_map[name] = _inner(name)
    model.output_map[signature.output] = LOGITS if classifies else TENSORS["embedding"]
    if classifies:
        post = scheduling.step.add(model_name=_named(artifact, "post"), model_version=-1)
        post.input_map[LOGITS] = LOGITS
        for name in (TENSORS["label"], TENSORS["probabilities"]):
            post.output_map[name] = name
    add_parameters(config, artifact, serve, 1)
    return config


def _pre(artifact: ArtifactView, serve: ServeSettings, workers: int, pb: Any) -> Any:
    signature = artifact.signature
    config = _config(artifact, serve, "pre", pb, backend="stillhouse_pre")
    add_input(config, signature, pb)
    _model_inputs(config.output, signature, pb)
    config.output.add(name=TENSORS["provenance"], data_type=pb.TYPE_STRING, dims=[1])
    return _on_cpus(config, artifact, serve, workers, pb)


def _post(artifact: ArtifactView, serve: ServeSettings, workers: int, pb: Any) -> Any:
    config = _config(artifact, serve, "post", pb, backend="stillhouse_post")
    count = len(artifact.signature.labels)
    config.input.add(name=LOGITS, data_type=pb.TYPE_FP32, dims=[count])
    config.output.add(name=TENSORS["label"], data_type=pb.TYPE_STRING, dims=[1])
    config.output.add(name=TENSORS["probabilities"], data_type=pb.TYPE_FP32, dims=[count])
    return _on_cpus(config, artifact, serve, workers, pb)


def _on_cpus(config: Any, artifact: ArtifactView, serve: ServeSettings, workers: int, pb: Any) -> Any:
    config.instance_group.add(name=config.name, kind=pb.ModelInstanceGroup.KIND_CPU, count=workers)
    config.dynamic_batching.SetInParent()  # its presence alone turns batching on; nobody waits for company here
    add_parameters(config, artifact, serve, 1)
    return config


def _model(artifact: ArtifactView, runtime: Runtime, serve: ServeSettings, pb: Any) -> Any:
    signature = artifact.signature
    config = _config(artifact, serve, "model", pb, backend=runtime.backend)
    _model_inputs(config.input, signature, pb)
    config.output.add(name=signature.output, data_type=pb.TYPE_FP32, dims=[len(signature.labels) or signature.dimension])
    on_gpu = runtime.accelerator == "gpu"
    kind = pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU
    # Without a list of GPUs: so many instances on each that the pod has.
    config.instance_group.add(name=config.name, kind=kind, count=serve.instances or 1)
    add_batching(config, runtime, serve)
    if serve.warmup:
        _warmup(config, signature)
    if serve.threads is not None:
        config.parameters["intra_op_thread_count"].string_value = str(serve.threads)
    if serve.tensorrt and on_gpu:
        _tensorrt(config, signature, serve)
    return config


def _warmup(config: Any, signature: Signature) -> None:
    """Have every instance run once before it is ready: the first run on a GPU loads kernels, for longer than a client waits."""
    warmup = config.model_warmup.add(name="one-row", batch_size=1, count=1)
    for tensor in config.input:
        given = warmup.inputs[tensor.name]
        given.data_type = tensor.data_type
        given.dims.extend([SHORTEST] if signature.takes_texts else tensor.dims)
        given.zero_data = True


def _model_inputs(tensors: Any, signature: Signature, pb: Any) -> None:
    for name in signature.inputs:
        if signature.takes_texts:
            tensors.add(name=name, data_type=pb.TYPE_INT64, dims=[-1])
        else:
            tensors.add(name=name, data_type=pb.TYPE_FP32, dims=signature.shape)


def _tensorrt(config: Any, signature: Signature, serve: ServeSettings) -> None:
    """Put TensorRT below ONNX Runtime; what it cannot run stays with CUDA.

    Its engine is made for a range of shapes that is named: else a new one is made, for minutes, at each shape that is larger
    than all before.
    """
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    values = {
        "precision_mode": _TRT_PRECISION[serve.tensorrt],
        "max_workspace_size_bytes": str(serve.workspace_bytes),
    }
    most_rows = serve.max_batch_size
    if not signature.takes_texts:
        shape = signature.shape
        values |= _profile(signature, (1, *shape), (min(_OPTIMAL_ROWS, most_rows), *shape), (most_rows, *shape))
    elif signature.max_length:
        longest = signature.max_length
        some = (min(_OPTIMAL_ROWS, most_rows), min(_OPTIMAL_TOKENS, longest))
        values |= _profile(signature, (1, 1), some, (most_rows, longest))
    for key, value in sorted(values.items()):
        accelerator.parameters[key] = value


def _profile(signature: Signature, *shapes: tuple[int, ...]) -> dict[str, str]:
    """Return the least, the usual and the largest shape of every input, as ONNX Runtime reads them."""
    return {
        f"trt_profile_{which}_shapes": ",".join(f"{name}:{'x'.join(map(str, shape))}" for name in signature.inputs)
        for which, shape in zip(("min", "opt", "max"), shapes, strict=True)
    }
