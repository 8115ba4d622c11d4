"""What every runtime has to keep, whichever Triton it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from stillhouse.inference.signature import FeatureSpec, ImageSpec, Signature
from stillhouse.triton import flags
from stillhouse.triton.locate import Installation
from stillhouse.triton.repository import LinkTo, Repository, render
from stillhouse.triton.runtimes import RUNTIMES, Runtime, runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

SIGNATURES = [
    Signature("sentence-embedding", ("input_ids", "attention_mask"), "sentence_embedding", 8, max_length=16),
    Signature("text-classification", ("input_ids", "attention_mask"), "logits", 2, labels=("a", "b"), max_length=16),
    Signature("image-classification", ("x",), "logits", 2, labels=("a", "b"), image=ImageSpec(4, 4, 1, (0.0,), (1.0,))),
    Signature("tabular-classification", ("x",), "logits", 2, labels=("a", "b"), features=FeatureSpec((3,), ("p", "q", "r"))),
    Signature("time-series-classification", ("x",), "logits", 2, labels=("a", "b"), features=FeatureSpec((8, 3))),
]
PLACES = Installation(*[Path("/p")] * 8)

pytestmark = pytest.mark.parametrize("which", list(RUNTIMES.values()), ids=list(RUNTIMES))


def test_it_is_found_by_its_name_and_says_what_it_is(which: Runtime) -> None:
    assert runtime(which.name) is which
    assert which.image
    assert which.server_version.replace(".", "").isdigit()
    assert all(platform.count("/") == 1 for platform in which.platforms)
    assert which.probes.ready.startswith("/v2/health/")


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.task)
def test_it_serves_every_task_under_the_wire_contract(which: Runtime, signature: Signature) -> None:
    files = {name: Path(name) for name in ("model.onnx", "tokenizer.json", "signature.json")}
    artifact = ArtifactView("m", "sha256:1", "main", "fp32", signature, files)
    repository = render(artifact, which, ServeSettings(), 2)
    entry = repository["m/config.pbtxt"]
    assert isinstance(entry, bytes)
    config = text_format.Parse(entry.decode(), pb.ModelConfig())
    assert config.max_batch_size == 32
    names = {"sentence-embedding": {"EMBEDDING"}}.get(signature.task, {"LABEL", "PROBABILITIES"})
    assert {output.name for output in config.output} - {"PROVENANCE"} == names
    tokens = {"input_ids", "attention_mask"}  # in the place of texts, from who tokenises by himself
    assert {tensor.name for tensor in config.input} - tokens == {signature.tensor}
    assert json.loads(config.parameters["stillhouse.labels"].string_value) == list(signature.labels)
    # What runs the model file is the runtime's backend, on what it says.
    runs = {name.partition("/")[0] for name in repository if name.endswith(f"/{which.model_folder}/model.onnx")}
    (model,) = [each for each in configs(repository).values() if each.name in runs]
    assert isinstance(repository[f"{model.name}/{which.model_folder}/model.onnx"], LinkTo)
    assert model.backend == which.backend
    wanted = pb.ModelInstanceGroup.KIND_CPU if which.accelerator == "cpu" else pb.ModelInstanceGroup.KIND_GPU
    assert [group.kind for group in model.instance_group] == [wanted]


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.task)
def test_every_tensor_has_a_source_and_a_folder_has_a_version(which: Runtime, signature: Signature) -> None:
    """What Triton checks when it loads a repository."""
    files = {name: Path(name) for name in ("model.onnx", "tokenizer.json", "signature.json")}
    repository = render(ArtifactView("m", "sha256:1", "main", "fp32", signature, files), which, ServeSettings(), 2)
    models = configs(repository)
    for name, config in models.items():
        assert config.name == name
        assert any(path.startswith(f"{name}/{which.model_folder}/") for path in repository)
        assert bool(config.backend) != (config.platform == "ensemble")
        known = {tensor.name for tensor in config.input}
        for step in config.ensemble_scheduling.step:
            part = models[step.model_name]
            assert set(step.input_map) == {tensor.name for tensor in part.input}
            assert set(step.output_map) <= {tensor.name for tensor in part.output}
            assert set(step.input_map.values()) <= known, "no part waits for what comes later"
            known |= set(step.output_map.values())
        if config.platform == "ensemble":
            assert {tensor.name for tensor in config.output} <= known


def configs(repository: Repository) -> dict[str, pb.ModelConfig]:
    """Every model's configuration, read by Triton's own protobuf."""
    texts = {name.partition("/")[0]: entry for name, entry in repository.items() if name.endswith("/config.pbtxt")}
    return {name: text_format.Parse(bytes(entry).decode(), pb.ModelConfig()) for name, entry in texts.items()}  # type: ignore[arg-type]


def test_it_never_opens_more_than_inference(which: Runtime) -> None:
    for locked in (which.restricted_grpc, which.restricted_http):
        assert {"shared-memory", "model-repository", "trace", "logging"} <= set(locked)
        assert not {"inference", "health", "metadata"} & set(locked)
    words = flags.command(
        which,
        PLACES,
        backends=Path("/b"),
        repository=Path("/r"),
        endpoints=flags.Endpoints("127.0.0.1", 8001, 8000, 8002),
        server_id="id",
        key="k",
    )
    assert "--model-control-mode=none" in words
    assert "--disable-auto-complete-config" in words
    assert not any("0.0.0.0" in word for word in words)
    assert len({word.partition("=")[0] for word in words if "restricted" in word}) == 2


def test_connections_end_in_time_for_a_hand_over(which: Runtime) -> None:
    ages = [flag.partition("=")[2] for flag in which.flags if flag.startswith("--grpc-max-connection-age=")]
    assert len(ages) == 1
    assert 1_000 <= int(ages[0]) <= 60_000
