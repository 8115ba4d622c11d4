"""What is rendered for NVIDIA's server beyond what every runtime must have (tests/contract/runtimes)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.triton.test_repository import CLASSIFIER, EMBEDDING, IMAGES, view
from tritonclient.grpc import model_config_pb2 as pb

from stillhouse.api.serve import Serve
from stillhouse.errors import ServerError
from stillhouse.inference.feed import padded_length
from stillhouse.planning.request import serve_config
from stillhouse.triton import locate
from stillhouse.triton.layout import serve_settings
from stillhouse.triton.repository import LinkTo, render
from stillhouse.triton.runtimes import runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

GPU = runtime("triton-nvidia")


def configs(artifact: ArtifactView, serve: ServeSettings, cpus: float = 4) -> dict[str, pb.ModelConfig]:
    repository = render(artifact, GPU, serve, cpus)
    found = {}
    for path, entry in repository.items():
        if path.endswith("config.pbtxt"):
            assert isinstance(entry, bytes)
            found[path.partition("/")[0].removeprefix("docs")] = text_format.Parse(entry.decode(), pb.ModelConfig())
    return found


def asked(**gpu: object) -> ServeSettings:
    """What a spec's `serve` is rendered from."""
    return serve_settings(serve_config(Serve.model_validate({"runtime": "triton-nvidia", "gpu": gpu})))


def test_an_embedding_needs_nothing_after_its_model() -> None:
    found = configs(view(EMBEDDING), ServeSettings())
    assert set(found) == {"", "_pre", "_model"}
    assert [step.model_name for step in found[""].ensemble_scheduling.step] == ["docs_pre", "docs_model"]
    assert set(configs(view(CLASSIFIER), ServeSettings())) == {"", "_pre", "_model", "_post"}


def test_files_lie_where_they_are_read() -> None:
    repository = render(view(CLASSIFIER), GPU, ServeSettings(), 2)
    assert {path for path, entry in repository.items() if isinstance(entry, LinkTo)} == {
        "docs/1/signature.json",
        "docs_pre/1/signature.json",
        "docs_pre/1/tokenizer.json",
        "docs_model/1/model.onnx",
        "docs_post/1/signature.json",
    }
    assert repository["docs/labels.txt"] == "no\njä\n".encode()


def test_the_model_is_on_every_gpu_and_the_rest_on_the_cpus() -> None:
    found = configs(view(CLASSIFIER), ServeSettings(instances=2, threads=3, max_queue_size=5, max_queue_delay_us=1000), cpus=4)
    model = found["_model"]
    assert [(group.kind, group.count, list(group.gpus)) for group in model.instance_group] == [
        (pb.ModelInstanceGroup.KIND_GPU, 2, [])
    ]
    assert model.parameters["intra_op_thread_count"].string_value == "3"
    assert model.dynamic_batching.max_queue_delay_microseconds == 1000
    assert model.dynamic_batching.default_queue_policy.max_queue_size == 5
    for part, count in (("_pre", 4), ("_post", 2)):
        assert [(group.kind, group.count) for group in found[part].instance_group] == [(pb.ModelInstanceGroup.KIND_CPU, count)]
        assert found[part].HasField("dynamic_batching")
        assert not found[part].dynamic_batching.HasField("default_queue_policy")
    assert not found[""].HasField("dynamic_batching"), "Triton refuses an ensemble that batches"


def test_the_model_runs_once_before_it_is_ready() -> None:
    for signature, dims in ((EMBEDDING, [8]), (IMAGES, [1, 8, 9])):
        (warmup,) = configs(view(signature), ServeSettings())["_model"].model_warmup
        assert {name: list(each.dims) for name, each in warmup.inputs.items()} == dict.fromkeys(signature.inputs, dims)
    assert not configs(view(EMBEDDING), ServeSettings(warmup=False))["_model"].model_warmup


def test_tensorrt_is_asked_for_by_name_and_with_the_shapes_that_may_come() -> None:
    assert not configs(view(EMBEDDING), asked())["_model"].HasField("optimization")
    model = configs(view(EMBEDDING), replace(asked(tensorrt={"workspace": "2Gi"}), max_batch_size=16))["_model"]
    (accelerator,) = model.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": str(2 << 30),
        "trt_profile_min_shapes": "input_ids:1x1,attention_mask:1x1",
        "trt_profile_opt_shapes": "input_ids:8x32,attention_mask:8x32",
        "trt_profile_max_shapes": "input_ids:16x64,attention_mask:16x64",
    }
    images = configs(view(IMAGES), asked(tensorrt={"precision": "fp32"}))["_model"]
    (accelerator,) = images.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["precision_mode"] == "FP32"
    assert accelerator.parameters["trt_profile_max_shapes"] == "pixels:32x1x8x9"


@given(st.integers(1, 4096), st.integers(0, 4096))
def test_texts_are_padded_to_few_lengths_and_never_past_the_longest(tokens: int, most: int) -> None:
    tokens = min(tokens, most) if most else tokens
    length = padded_length(tokens, most)
    assert tokens <= length <= max(8, 2 * tokens)
    assert not most or length <= most
    assert length == most or length & (length - 1) == 0


def test_elsewhere_than_in_its_image_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ServerError) as told:
        locate.find(str(tmp_path))
    assert "Dockerfile.nvidia" in told.value.problem.allowed
    assert "images.serveNvidia" in told.value.problem.fix


def test_the_backends_of_an_installation_stand_beside_ours(tmp_path: Path) -> None:
    home = tmp_path / "tritonserver"
    for name in ("bin/tritonserver", "backends/onnxruntime/libtriton_onnxruntime.so"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    (home / "backends" / "python").mkdir()
    for name in ("libtriton_python.so", "triton_python_backend_utils.py", "triton_python_backend_stub"):
        (home / "backends" / "python" / name).write_text(name)
    folder = locate.prepare_backends(locate.find(str(home)), tmp_path / "cache")
    assert {each.name for each in folder.iterdir()} == {
        "onnxruntime",
        "python",
        "stillhouse",
        "stillhouse_post",
        "stillhouse_step",
        "stillhouse_copy",
        "stillhouse_pre",
        "stillhouse_preprocess",
        "stillhouse_half",
    }
    assert (folder / "onnxruntime" / "libtriton_onnxruntime.so").read_text() == "backends/onnxruntime/libtriton_onnxruntime.so"
    assert "TritonPythonModel" in (folder / "stillhouse_pre" / "model.py").read_text()
    assert locate.prepare_backends(locate.find(str(home)), tmp_path / "cache") == folder
