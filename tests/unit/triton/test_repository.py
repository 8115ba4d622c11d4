from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from stillhouse.errors import SourceError, SpecError
from stillhouse.inference.signature import FeatureSpec, ImageSpec, Signature
from stillhouse.triton.profile import Profile, choose
from stillhouse.triton.repository import LinkTo, Repository, render
from stillhouse.triton.runtimes import RUNTIMES, runtime
from stillhouse.triton.settings import ArtifactView, ServeSettings
from stillhouse.triton.writer import write

RUNTIME = runtime("triton-ort-cpu")
EMBEDDING = Signature("sentence-embedding", ("input_ids", "attention_mask"), "sentence_embedding", 384, max_length=64)
CLASSIFIER = replace(EMBEDDING, task="text-classification", output="logits", dimension=2, labels=("no", "jä"))
IMAGES = Signature("image-classification", ("pixels",), "logits", 2, labels=("0", "1"), image=ImageSpec(8, 9, 1, (0.5,), (0.5,)))
TABLE = Signature("tabular-classification", ("x",), "logits", 2, labels=("0", "1"), features=FeatureSpec((2,), ("age", "größe")))
SERIES = Signature("time-series-classification", ("x",), "logits", 2, labels=("0", "1"), features=FeatureSpec((8, 3)))


def view(signature: Signature, folder: Path = Path("artifact")) -> ArtifactView:
    names = ["model.onnx", "signature.json", "receipt.json"]
    if signature.takes_texts:
        names.append("tokenizer.json")
    files = {name: folder / name for name in names}
    return ArtifactView("docs", "sha256:ab", "main", "int8", signature, files)


def config(repository: Repository) -> pb.ModelConfig:
    entry = repository["docs/config.pbtxt"]
    assert isinstance(entry, bytes)
    return text_format.Parse(entry.decode(), pb.ModelConfig())


def rendered(signature: Signature = EMBEDDING, serve: ServeSettings | None = None, cpus: float = 2) -> pb.ModelConfig:
    return config(render(view(signature), RUNTIME, serve or ServeSettings(), cpus))


def test_files_are_links_and_nothing_else_of_the_artifact_comes_along() -> None:
    repository = render(view(CLASSIFIER), RUNTIME, ServeSettings(), 2)
    assert list(repository) == [
        "docs/1/model.onnx",
        "docs/1/signature.json",
        "docs/1/tokenizer.json",
        "docs/config.pbtxt",
        "docs/labels.txt",
    ]
    assert repository["docs/1/model.onnx"] == LinkTo(Path("artifact/model.onnx"))
    assert repository["docs/labels.txt"] == "no\njä\n".encode()


@pytest.mark.parametrize(
    ("signature", "inputs", "outputs"),
    [
        (EMBEDDING, {"TEXT": (pb.TYPE_STRING, [1])}, {"EMBEDDING": (pb.TYPE_FP32, [384])}),
        (
            CLASSIFIER,
            {"TEXT": (pb.TYPE_STRING, [1])},
            {"LABEL": (pb.TYPE_STRING, [1]), "PROBABILITIES": (pb.TYPE_FP32, [2])},
        ),
        (
            IMAGES,
            {"IMAGE": (pb.TYPE_FP32, [1, 8, 9])},
            {"LABEL": (pb.TYPE_STRING, [1]), "PROBABILITIES": (pb.TYPE_FP32, [2])},
        ),
        *(
            (
                signature,
                {"FEATURES": (pb.TYPE_FP32, shape)},
                {"LABEL": (pb.TYPE_STRING, [1]), "PROBABILITIES": (pb.TYPE_FP32, [2])},
            )
            for signature, shape in ((TABLE, [2]), (SERIES, [8, 3]))
        ),
    ],
)
def test_tensors_are_those_of_the_wire_contract(
    signature: Signature, inputs: dict[str, object], outputs: dict[str, object]
) -> None:
    found = rendered(signature)
    must = [item for item in found.input if not item.optional or item.name == "TEXT"]
    assert {item.name: (item.data_type, list(item.dims)) for item in must} == inputs
    others = [(item.name, item.data_type, list(item.dims), item.allow_ragged_batch) for item in found.input if item not in must]
    tokens = [(name, pb.TYPE_INT64, [-1], True) for name in ("input_ids", "attention_mask")]
    assert others == (tokens if "TEXT" in inputs else []), "what may come instead of texts"
    expected = {**outputs, "PROVENANCE": (pb.TYPE_STRING, [1])}
    assert {item.name: (item.data_type, list(item.dims)) for item in found.output} == expected
    assert found.name == "docs"
    assert found.backend == "stillhouse"
    assert not found.platform


def test_parameters_carry_contract_digest_and_labels() -> None:
    values = {key: value.string_value for key, value in rendered(CLASSIFIER).parameters.items()}
    assert values["stillhouse.contract"] == "1"
    assert values["stillhouse.digest"] == "sha256:ab"
    assert json.loads(values["stillhouse.labels"]) == ["no", "jä"]
    assert values["stillhouse.precision"] == "int8"
    assert values["stillhouse.variant"] == "main"
    assert json.loads({k: v.string_value for k, v in rendered(IMAGES).parameters.items()}["stillhouse.image"]) == [1, 8, 9]
    told = {k: v.string_value for k, v in rendered(TABLE).parameters.items()}
    assert json.loads(told["stillhouse.features"]) == {"shape": [2], "columns": ["age", "größe"]}
    assert "stillhouse.features" not in values, "others' files stay as they were"


def test_batching_is_on_and_no_policy_unless_asked_for() -> None:
    found = rendered(serve=ServeSettings(max_batch_size=16, max_queue_delay_us=700, preferred_batch_sizes=(4, 8)))
    assert found.max_batch_size == 16
    assert found.HasField("dynamic_batching")
    assert found.dynamic_batching.max_queue_delay_microseconds == 700
    assert list(found.dynamic_batching.preferred_batch_size) == [4, 8]
    assert not found.dynamic_batching.HasField("default_queue_policy")
    assert rendered(serve=ServeSettings()).HasField("dynamic_batching")


def test_the_runtime_has_a_preferred_size_where_the_model_allows_more() -> None:
    def preferred(**serve: Any) -> list[int]:
        return list(rendered(serve=ServeSettings(**serve)).dynamic_batching.preferred_batch_size)

    assert preferred() == [RUNTIME.preferred_batch_size] == [8]
    assert preferred(max_batch_size=9) == [8]
    assert preferred(max_batch_size=8) == []
    assert preferred(max_batch_size=1) == []
    assert preferred(preferred_batch_sizes=()) == []


def test_queue_policy() -> None:
    policy = rendered(serve=ServeSettings(max_queue_size=7, queue_timeout_us=9000)).dynamic_batching.default_queue_policy
    assert policy.max_queue_size == 7
    assert policy.default_timeout_microseconds == 9000
    assert policy.timeout_action == pb.ModelQueuePolicy.REJECT
    assert policy.allow_timeout_override


def test_cache_and_warmup_by_choice() -> None:
    assert rendered(serve=ServeSettings(response_cache=True)).response_cache.enable
    assert not rendered().response_cache.enable
    assert [item.name for item in rendered().model_warmup] == ["one-text"]
    assert not rendered(serve=ServeSettings(warmup=False)).model_warmup


def test_the_same_arguments_give_the_same_bytes() -> None:
    first = render(view(CLASSIFIER), RUNTIME, ServeSettings(response_cache=True), 4)
    second = render(view(CLASSIFIER), RUNTIME, ServeSettings(response_cache=True), 4)
    assert dict(first) == dict(second)
    # No path of this machine gets into the configuration.
    elsewhere = render(view(CLASSIFIER, Path("/somewhere/else")), RUNTIME, ServeSettings(response_cache=True), 4)
    assert elsewhere["docs/config.pbtxt"] == first["docs/config.pbtxt"]


@pytest.mark.parametrize(
    ("serve", "field"),
    [
        (ServeSettings(max_batch_size=0), "spec.serve.batching.maxBatchSize"),
        (ServeSettings(max_batch_size=4, preferred_batch_sizes=(8,)), "spec.serve.batching.preferredBatchSizes"),
        (ServeSettings(max_queue_delay_us=-1), "spec.serve.batching.maxQueueDelay"),
        (ServeSettings(max_queue_size=-1), "spec.serve.queue.maxSize"),
        (ServeSettings(instances=0), "spec.serve.instances"),
    ],
)
def test_contradictions_name_their_field(serve: ServeSettings, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        render(view(EMBEDDING), RUNTIME, serve, 2)
    assert caught.value.problem.field == field


def test_a_missing_file_is_named() -> None:
    artifact = view(EMBEDDING)
    with pytest.raises(SourceError) as caught:
        render(replace(artifact, files={"model.onnx": Path("x")}), RUNTIME, ServeSettings(), 2)
    assert "tokenizer.json" in caught.value.problem.allowed


@pytest.mark.parametrize(
    ("cpus", "model_bytes", "expected"),
    [
        (0.5, 0, Profile(1, 1)),
        (1, 0, Profile(1, 1)),
        (2, 0, Profile(2, 1)),
        (4, 0, Profile(4, 1)),
        (5, 0, Profile(3, 1)),
        (16, 0, Profile(14, 1)),
        (2, 1 << 30, Profile(1, 2)),
        (16, 1 << 30, Profile(3, 4)),
    ],
)
def test_profiles(cpus: float, model_bytes: int, expected: Profile) -> None:
    assert choose(cpus, model_bytes) == expected


@given(st.floats(0.05, 256), st.integers(0, 1 << 34), st.none() | st.integers(1, 8), st.none() | st.integers(1, 8))
def test_a_profile_never_takes_more_threads_than_cpus_unless_told_to(
    cpus: float, model_bytes: int, instances: int | None, threads: int | None
) -> None:
    found = choose(cpus, model_bytes, instances, threads)
    assert found.instances >= 1
    assert found.threads >= 1
    assert instances in (None, found.instances)
    assert threads in (None, found.threads)
    if instances is None and threads is None:
        assert found.instances * found.threads <= max(1, cpus)


def test_unknown_runtime_lists_those_that_exist() -> None:
    with pytest.raises(SpecError) as caught:
        runtime("triton-moon")
    assert caught.value.problem.allowed == ", ".join(sorted(RUNTIMES))


def artifact_in(folder: Path) -> ArtifactView:
    folder.mkdir(parents=True)
    artifact = view(EMBEDDING, folder)
    for name, path in artifact.files.items():
        path.write_text(name, encoding="utf-8")
    return artifact


def test_writing_replaces_the_whole_repository(tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path / "artifact")
    target = tmp_path / "repository"
    (target / "old").mkdir(parents=True)
    write(render(artifact, RUNTIME, ServeSettings(), 2), target)
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == [
        "config.pbtxt",
        "model.onnx",
        "signature.json",
        "tokenizer.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "repository"]


def test_the_repository_stays_whole_when_the_store_drops_the_artifact(tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path / "artifact")
    write(render(artifact, RUNTIME, ServeSettings(), 2), tmp_path / "repository")
    artifact.files["model.onnx"].unlink()
    written = tmp_path / "repository" / "docs" / "1" / "model.onnx"
    assert written.read_text(encoding="utf-8") == "model.onnx"
    assert not written.is_symlink()


def test_a_failed_write_leaves_the_old_repository(tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path / "artifact")
    target = tmp_path / "repository"
    write(render(artifact, RUNTIME, ServeSettings(), 2), target)
    before = sorted(target.rglob("*"))
    artifact.files["tokenizer.json"].unlink()
    with pytest.raises(Exception, match="cannot be written"):
        write(render(artifact, RUNTIME, ServeSettings(), 2), target)
    assert sorted(target.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "repository"]
