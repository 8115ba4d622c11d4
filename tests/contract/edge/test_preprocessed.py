"""Steps at the edge: raw data goes to a gateway, features go on to the model in the cloud, and nothing of this was built."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from PIL import Image
from tests.support.oip_backend import Backend, backend
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import read
from stillhouse.edge.gateway import Options
from stillhouse.edge.gateway import run as serve
from stillhouse.edge.wire.call import Limits
from stillhouse.entrypoints.edge.preparing import Given, prepare
from stillhouse.entrypoints.edge.verified import verify
from stillhouse.entrypoints.local.building import build
from stillhouse.entrypoints.local.display import showing
from stillhouse.entrypoints.local.workspace import open_file
from stillhouse.errors import StillhouseError
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import load_chain

RANDOM = np.random.default_rng(3)
SENSOR = [
    {"kind": "window", "length": 16, "hop": 5},
    {"kind": "statistics", "names": ["mean", "rms"], "quantiles": ["0.5"]},
    {"kind": "normalise", "mean": ["0.5"], "std": ["0.25"]},
]
PICTURE = [{"kind": "image", "height": 6, "width": 5}]
TEXT = [{"kind": "tokenise", "maxLength": 12}]
NUMBERS_TO_PICTURE = [
    {"kind": "normalise", "mean": ["0"], "std": ["1"]},
    {"kind": "image", "height": 1, "width": 1, "input": "FEATURES"},
]
PYTHON = [
    {
        "kind": "python",
        "function": "tests.support.step_functions:doubled",
        "inputs": [{"name": "IN", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "OUT", "datatype": "FP32", "shape": [-1, 2]}],
    }
]


def resource(folder: Path, steps: list[dict[str, Any]], encoding: str = "none", **edge: Any) -> Path:
    preprocess = {"steps": steps, "model": "echo", "encoding": encoding}
    spec = {
        "source": {"uri": "models:minilm", "task": "text-classification"},
        "edge": {"preprocess": preprocess, **edge},
    }
    file = folder / "edge.yaml"
    data = {"apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": "search"}, "spec": spec}
    file.write_text(json.dumps(data))
    return file


@contextlib.asynccontextmanager
async def running(options: Options) -> AsyncIterator[str]:
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(serve(options, stop, listening))
    await asyncio.wait([task, listening], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield listening.result()["grpc"]
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def edge(folder: Path, file: Path, cloud: bool = True, **given: Any) -> AsyncIterator[tuple[Any, Backend]]:
    """A backend, a gateway before it (`cloud`), and what `still edge` starts before that; a client of the last."""
    async with contextlib.AsyncExitStack() as held:
        behind = await held.enter_async_context(backend())
        address = behind.address
        if cloud:
            address = await held.enter_async_context(running(Options({"echo": {address: 1.0}}, "1", port=0)))
        prepared = prepare(LocalStore(folder / "home"), file, Given(cloud=f"grpc://{address}", **given))
        config = read(prepared.config)
        here = Options({}, "1", port=0, config=config, limits=Limits(message=1 << 20))
        client = triton.InferenceServerClient(await held.enter_async_context(running(here)))
        held.push_async_callback(client.close)
        yield client, behind


def given(name: str, values: np.ndarray) -> Any:
    made = triton.InferInput(name, values.shape, np_to_triton_dtype(values.dtype))
    made.set_data_from_numpy(values)
    return made


@pytest.mark.parametrize(("encoding", "bound"), [("none", 0.0), ("zstd", 0.0), ("fp16+zstd", 2**-11), ("int8", 0.5 / 255 + 1e-6)])
def test_a_sensor_s_features_travel_and_not_its_samples(tmp_path: Path, encoding: str, bound: float) -> None:
    samples = RANDOM.normal(size=(4, 90, 2)).astype(np.float32)
    plain = [
        {**step, **{k: list(map(float, v)) for k, v in step.items() if k in ("mean", "std", "quantiles")}} for step in SENSOR
    ]  # type: ignore[union-attr]
    expected = load_chain({"version": 1, "steps": plain}, Around(tmp_path)).run({"SIGNAL": samples})["FEATURES"]

    async def work() -> None:
        async with edge(tmp_path, resource(tmp_path, SENSOR, encoding)) as (client, behind):
            answer = await client.infer("search", [given("SIGNAL", samples)], request_id="r", parameters={"trace": True})
            found = answer.as_numpy("FEATURES")
            assert np.abs(found.astype(np.float64) - expected).max() <= bound * float(np.ptp(np.append(expected, 0)))
            (asked,) = behind.requests
            assert [(each.name, each.datatype, dict(each.parameters)) for each in asked.inputs] == [("FEATURES", "FP32", {})]
            response = answer.get_response()
            assert (response.model_name, response.id) == ("search", "r")
            assert response.parameters["leg"].string_param == "cloud"
            assert response.parameters["trace_steps_ms"].double_param > 0
            with pytest.raises(InferenceServerException, match=r"\[StatusCode.INVALID_ARGUMENT\] .*SIGNAL"):
                await client.infer("search", [given("WINDOWS", samples)])
            with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
                await client.infer("search", [given("SIGNAL", samples.astype(np.int16))])
            assert len(behind.requests) == 1
            told = await client.get_model_metadata("search")
            assert (told.name, told.platform) == ("search", "stillhouse_preprocess")
            assert [(each.name, each.datatype, list(each.shape)) for each in told.inputs] == [("SIGNAL", "FP32", [-1, -1, -1])]
            assert [each.name for each in told.outputs] == ["y"], "the model's own"
            assert await client.is_model_ready("search")
            config = (await client.get_model_config("search")).config
            assert (config.name, config.platform, config.max_batch_size) == ("search", "stillhouse_preprocess", 8)
            assert [each.name for each in config.input] == ["SIGNAL"]
            assert config.parameters["stillhouse.labels"].string_value == '["no", "yes"]'
            assert "k" not in config.parameters, "what else a server has is not ours to tell"

    run(work())


def test_it_is_encoded_on_the_way(tmp_path: Path) -> None:
    async def work() -> None:
        async with edge(tmp_path, resource(tmp_path, SENSOR, "fp16+zstd"), cloud=False) as (client, behind):
            await client.infer("search", [given("SIGNAL", np.zeros((1, 500, 3), np.float32))])
            (tensor,) = behind.requests[0].inputs
            assert (tensor.datatype, tensor.parameters["stillhouse_encoding"].string_param) == ("UINT8", "fp16+zstd")
            assert len(behind.requests[0].raw_input_contents[0]) < 100

    run(work())


def test_words_are_masked_before_they_are_tokens_and_pictures_are_no_words(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)  # tokenizer.json lies beside the file
    guard = {"patterns": [{"name": "digits", "regex": "[0-9]+", "action": "mask"}], "maxTextLength": 40}
    raw = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(raw, "PNG")

    async def work() -> None:
        file = resource(tmp_path, TEXT, "int8+zstd", guard=guard)
        async with edge(tmp_path, file) as (client, behind):
            texts = np.array([[b"read the file 123456"], [b"read the file [digits]"]], dtype=object)
            answer = await client.infer("search", [given("TEXT", texts)])
            ids = answer.as_numpy("input_ids")
            assert ids.dtype == np.int64 and (ids[0] == ids[1]).all()
            assert {each.name for each in behind.requests[0].inputs} == {"input_ids", "attention_mask"}
            with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
                await client.infer("search", [given("TEXT", np.array([[b"x" * 41]], dtype=object))])
        async with edge(tmp_path, resource(tmp_path, PICTURE, guard=guard)) as (client, behind):
            answer = await client.infer("search", [given("FILE", np.array([[raw.getvalue()]], dtype=object))])
            assert answer.as_numpy("IMAGE").shape == (1, 3, 6, 5)
            with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
                await client.infer("search", [given("FILE", np.array([[b"no picture"]], dtype=object))])
            assert len(behind.requests) == 1

    run(work())


def test_functions_run_where_they_are_allowed(tmp_path: Path) -> None:
    async def work() -> None:
        file = resource(tmp_path, PYTHON)
        async with edge(tmp_path, file, allowed=("tests.support.step_functions",)) as (client, _):
            answer = await client.infer("search", [given("IN", np.float32([[1, 2]]))])
            assert answer.as_numpy("OUT").tolist() == [[2, 4]]

    run(work())


def test_what_was_built_of_the_file_is_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One artifact for this machine and for a cluster; a file that has changed since is made anew, as without a build."""
    monkeypatch.setenv("STILLHOUSE_HOME", str(tmp_path / "home"))
    file, store = resource(tmp_path, SENSOR), LocalStore(tmp_path / "home")
    with showing() as listener:
        revision = build(open_file(file), listener)
    assert (revision["precision"], revision["lineage"]["sources"], revision["candidates"]) == ("steps", [], [])
    given = Given(cloud="grpc://127.0.0.1:9")
    first = prepare(store, file, given).settings["edge"]
    assert (first["digest"], first["folder"]) == (revision["digest"], str(store.objects.path(revision["digest"])))
    verify(read(prepare(store, file, given).config))
    again = prepare(store, resource(tmp_path, SENSOR[:1]), given).settings["edge"]
    assert again["digest"] != revision["digest"] and again["folder"].endswith("/edge/search/steps")


@pytest.mark.parametrize(
    ("steps", "cloud", "says"),
    [
        (TEXT, "grpc://127.0.0.1:9", "a step needs tokenizer.json.*--files"),
        (NUMBERS_TO_PICTURE, "grpc://127.0.0.1:9", r"spec.edge.preprocess.steps\[1\].*FEATURES"),
        (PYTHON, "grpc://127.0.0.1:9", r"spec.edge.preprocess.steps\[0\].*function"),
        (SENSOR, None, "nobody has said where the model is.*--cloud"),
    ],
    ids=["tokenizer", "types", "function", "address"],
)  # fmt: skip
def test_what_is_missing_is_said_before_it_starts(
    tmp_path: Path, steps: list[dict[str, Any]], cloud: str | None, says: str
) -> None:
    with pytest.raises(StillhouseError) as refused:
        prepare(LocalStore(tmp_path / "home"), resource(tmp_path, steps), Given(cloud=cloud))
    assert refused.value.exit_code == 2
    assert re.search(says, " ".join(refused.value.problem.lines()))
