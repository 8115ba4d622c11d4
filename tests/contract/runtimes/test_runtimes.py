"""What every runtime has to keep, whichever Triton it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.triton import flags
from stillhouse.triton.locate import Installation
from stillhouse.triton.repository import LinkTo, render
from stillhouse.triton.runtimes import RUNTIMES, Runtime, runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings

SIGNATURES = [
    Signature("sentence-embedding", ("input_ids", "attention_mask"), "sentence_embedding", 8, max_length=16),
    Signature("text-classification", ("input_ids", "attention_mask"), "logits", 2, labels=("a", "b"), max_length=16),
    Signature("image-classification", ("x",), "logits", 2, labels=("a", "b"), image=ImageSpec(4, 4, 1, (0.0,), (1.0,))),
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
    assert config.backend == which.backend
    assert config.max_batch_size == 32
    names = {"sentence-embedding": {"EMBEDDING"}}.get(signature.task, {"LABEL", "PROBABILITIES"})
    assert {output.name for output in config.output} - {"PROVENANCE"} == names
    assert isinstance(repository[f"m/{which.model_folder}/model.onnx"], LinkTo)


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
