"""The same chains on the real server and here: integers equal, floats within what docs/preprocessing.md says."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from tests.support.tiny_model import write_tiny_model

from stillhouse.edge.oip.messages import message
from stillhouse.edge.oip.tensors import add_input, outputs_of
from stillhouse.inference.preprocess.chain import CHAIN_FILE, Chain, read_chain
from stillhouse.triton.preprocess import chain_model
from stillhouse.triton.server import ServerHandle, ServerOptions, start

HERE = "tests.support.step_functions"
RANDOM = np.random.default_rng(5)
SENSOR = [
    {"kind": "window", "length": 16, "hop": 5},
    {"kind": "statistics", "names": ["mean", "std", "rms", "median"], "quantiles": [0.1], "rate": 50, "bands": [[0, 5], [5, 25]]},
    {"kind": "normalise", "mean": [0.5], "std": [0.3], "clip": 4},
]
PIXELS = [{"kind": "image", "height": 9, "width": 7, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2]}]
PYTHON = [
    {
        "kind": "python", "function": f"{HERE}:doubled", "options": {"times": 3},
        "inputs": [{"name": "IN", "datatype": "INT32", "shape": [-1]}],
        "outputs": [{"name": "OUT", "datatype": "INT32", "shape": [-1]}],
    }
]  # fmt: skip


def png(side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (side, side + 3, 3), dtype=np.uint8)).save(file, "JPEG" if side % 2 else "PNG")
    return file.getvalue()


CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "tokenise": (
        [{"kind": "tokenise", "maxLength": 12, "datatype": "INT32", "padding": "power"}],
        {"TEXT": np.array([[b"open the file"], [b""], ["Wörter ".encode() * 40]], dtype=object)},
    ),
    "sensor": (SENSOR, {"SIGNAL": RANDOM.normal(size=(3, 77, 2)).astype(np.float32)}),
    "pixels": (PIXELS, {"FILE": np.array([[png(20)], [png(31)]], dtype=object)}),
    "python": (PYTHON, {"IN": np.arange(4, dtype=np.int32)}),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps")
    write_tiny_model(folder / "artifact")
    for name, (steps, _) in CASES.items():
        version = folder / "repository" / name / "1"
        version.mkdir(parents=True)
        (version / CHAIN_FILE).write_text(json.dumps({"version": 1, "steps": steps}))
        (version / "tokenizer.json").write_bytes((folder / "artifact" / "tokenizer.json").read_bytes())
        found = chain(folder / "repository", name)
        model = chain_model(name, found.inputs, found.outputs, allowed=(HERE,))
        (version.parent / "config.pbtxt").write_text(model.config)
    return folder / "repository"


def chain(repository: Path, name: str) -> Chain:
    found = read_chain(repository / name / "1", frozenset({HERE}))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def stepping(repository: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    monkey = pytest.MonkeyPatch()
    root = str(Path(__file__).parents[2])  # the functions that are allowed are these tests' own
    monkey.setenv("PYTHONPATH", os.pathsep.join([os.environ["PYTHONPATH"], root] if "PYTHONPATH" in os.environ else [root]))
    handle = start(ServerOptions("tokenise", repository, tmp_path_factory.mktemp("run"), cache, start_timeout_s=60))
    try:
        yield handle
    finally:
        monkey.undo()
        handle.stop(2.0)


def ask(server: ServerHandle, model: str, tensors: dict[str, Any]) -> dict[str, Any]:
    request = message("ModelInferRequest")(model_name=model)
    for name, tensor in tensors.items():
        add_input(request, name, tensor)
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = call(request.SerializeToString(), timeout=10)
    return outputs_of(message("ModelInferResponse").FromString(answer))


@pytest.mark.parametrize("name", CASES)
def test_the_server_gives_what_the_edge_gives(stepping: ServerHandle, repository: Path, name: str) -> None:
    given = CASES[name][1]
    wanted = chain(repository, name).run(given)
    found = ask(stepping, name, given)
    assert set(found) == set(wanted)
    for output, tensor in wanted.items():
        assert (found[output].dtype, found[output].shape) == (tensor.dtype, tensor.shape)
        if tensor.dtype.kind in "iu":
            np.testing.assert_array_equal(found[output], tensor)
        else:
            np.testing.assert_allclose(found[output], tensor, rtol=1e-6, atol=1e-6 * np.abs(tensor).max())


def test_what_is_wrong_is_named_there_too(stepping: ServerHandle) -> None:
    with pytest.raises(grpc.RpcError, match=r"TEXT\[1\]") as caught:
        ask(stepping, "tokenise", {"TEXT": np.array([[b"a"], [b"\xff"]], dtype=object)})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
