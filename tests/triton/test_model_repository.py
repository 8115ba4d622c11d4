"""The committed example is what rendering gives today, and the real server loads it as it lies there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from google.protobuf import text_format
from tests.support.example_repository import HERE, NAME, rendered
from tritonclient.grpc import model_config_pb2 as pb

from stillhouse.clients.triton import TritonClient
from stillhouse.inference.engine import Engine
from stillhouse.triton.model_config import CONTRACT_VERSION
from stillhouse.triton.server import ServerOptions, start


def test_the_example_is_loaded_and_answers(tmp_path: Path, cache: Path) -> None:
    server = start(ServerOptions(NAME, HERE, tmp_path, cache, start_timeout_s=60))
    try:
        with TritonClient(server.address) as client:
            texts = ["open the file", "return the list"]
            answer = client.infer_texts(NAME, texts)
            assert answer.embeddings is not None
            np.testing.assert_allclose(answer.embeddings, Engine(HERE / NAME / "1").embed(texts), atol=1e-5)
            assert client.parameters(NAME)["stillhouse.contract"] == CONTRACT_VERSION
    finally:
        server.stop(1)


def test_the_example_is_what_rendering_gives(tmp_path: Path) -> None:
    repository = rendered(tmp_path / "artifact")
    committed = {str(path.relative_to(HERE)) for path in (HERE / NAME).rglob("*") if path.is_file()}
    assert set(repository) == committed
    entry = repository[f"{NAME}/config.pbtxt"]
    assert isinstance(entry, bytes)
    fresh = text_format.Parse(entry.decode(), pb.ModelConfig())
    old = text_format.Parse((HERE / NAME / "config.pbtxt").read_text(encoding="utf-8"), pb.ModelConfig())
    # The libraries that serialise model and tokenizer may write other bytes in another version: digests are left out.
    for config in (fresh, old):
        del config.parameters["stillhouse.digest"]
        del config.parameters["stillhouse.tokenizer_digest"]
    assert fresh == old
    texts = ["open the file", "a", "path name value"]
    np.testing.assert_allclose(Engine(tmp_path / "artifact").embed(texts), Engine(HERE / NAME / "1").embed(texts), atol=1e-6)
