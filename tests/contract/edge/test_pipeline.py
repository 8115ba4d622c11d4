"""Models that are apart and answer as one: a gateway before servers on loopback, asked by the usual client and by raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tests.support.api_objects import complete
from tests.support.pki import certificates
from tests.support.step_graphs import Regression, write_rule
from tests.support.tiny_model import write_tiny_model
from tests.support.wire import run, until
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from stillhouse.api.load import parse
from stillhouse.edge.certificates import Files, Front
from stillhouse.edge.config import Config
from stillhouse.edge.gateway import Options
from stillhouse.edge.gateway import run as serve
from stillhouse.edge.guard.clients import Clients
from stillhouse.edge.oip.messages import SERVICE, message
from stillhouse.edge.oip.tensors import add_output, inputs_of
from stillhouse.edge.status import Code, Reply, RpcError
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.server import Server
from stillhouse.inference.engine import Engine
from stillhouse.inference.steps import Step, Tensor, step_file, write_steps
from stillhouse.planning.gateway import Place, gateway_config
from stillhouse.planning.pipeline import pipeline_config, step_models

Arrays = Mapping[str, Any]
WEIGHT = np.array([[1.0, -1.0, 0.5], [0.0, 2.0, -0.5]], np.float32)


class Model:
    """A server of one model. `answer`: what it does with arrays; `seen` its requests; `error`, `wait`: what may go wrong."""

    def __init__(self, name: str, answer: Callable[[Arrays], Arrays], outputs: Mapping[str, tuple[str, list[int]]]) -> None:
        self.name, self.answer, self.outputs = name, answer, outputs
        self.seen: list[Any] = []
        self.error: RpcError | None = None
        self.wait: asyncio.Event | None = None
        self.cancelled = 0
        self.ready = True
        self.address = ""

    def methods(self) -> dict[str, Callable[[Call, bytes], Coroutine[Any, Any, Reply]]]:
        return {
            f"/{SERVICE}/ModelInfer": self._infer,
            f"/{SERVICE}/ModelReady": self._ready,
            f"/{SERVICE}/ModelMetadata": self._metadata,
        }

    async def _infer(self, call: Call, body: bytes) -> Reply:
        request = message("ModelInferRequest").FromString(body)
        assert request.model_name == self.name
        self.seen.append(request)
        if self.wait is not None:
            try:
                await self.wait.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error is not None:
            raise self.error
        response = message("ModelInferResponse")(model_name=self.name, model_version="7", id=request.id)
        response.parameters["digest"].string_param = f"sha256:{self.name}"
        named = [each.name for each in request.outputs]
        for name, array in self.answer(inputs_of(request)).items():
            if not named or name in named:
                add_output(response, name, array)
        return Reply(response.SerializeToString())

    async def _ready(self, call: Call, body: bytes) -> Reply:
        return Reply(message("ModelReadyResponse")(ready=self.ready).SerializeToString())

    async def _metadata(self, call: Call, body: bytes) -> Reply:
        found = message("ModelMetadataResponse")(name=self.name, versions=["7"], platform="python")
        found.inputs.add(name="TEXT", datatype="BYTES", shape=[-1, 1])
        for name, (datatype, shape) in self.outputs.items():
            found.outputs.add(name=name, datatype=datatype, shape=shape)
        return Reply(found.SerializeToString())


def embed(given: Arrays) -> Arrays:
    rows = [bytes(each) for each in given["TEXT"].ravel()]
    return {"EMBEDDING": np.array([[len(each), each.count(b"e")] for each in rows], np.float32)}


def decide(given: Arrays) -> Arrays:
    scores = given["features"] @ WEIGHT
    return {"scores": scores, "best": scores.argmax(axis=1)[:, np.newaxis], "unused": scores}


def topics(given: Arrays) -> Arrays:
    return {"LABEL": np.array([[bytes(each)[:1]] for each in given["TEXT"].ravel()], dtype=object)}


def both(given: Arrays) -> Arrays:
    said = [b"%d %s" % (best, topic) for best, topic in zip(given["best"].ravel(), given["topic"].ravel(), strict=True)]
    return {"said": np.array(said, dtype=object)[:, np.newaxis]}


STEPS = [
    {"name": "decide", "model": "head", "inputs": {"features": "EMBEDDING"}, "outputs": {"scores": "SCORES"}},
    {"name": "topic", "model": "topics", "inputs": {"TEXT": "request.TEXT"}, "outputs": {"LABEL": "TOPIC"}},
    {
        "name": "last",
        "model": "both",
        "inputs": {"best": "decide.best", "topic": "topic.LABEL"},
        "outputs": {"said": "SAID"},
    },
]
SPEC = {
    "apiVersion": "stillhouse.io/v1alpha1",
    "kind": "DistilledModel",
    "metadata": {"name": "search"},
    "spec": {
        "source": {"uri": "models:minilm", "task": "sentence-embedding"},
        "pipeline": {"placement": "apart", "steps": STEPS},
        "edge": {},
    },
}


def configuration(addresses: Mapping[str, str], shown: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """Return what is written for `SPEC` and read by the gateway, with each model at its address, and `shown` to some steps."""
    model = parse(SPEC)
    assert model.spec.edge is not None
    at = {
        each: {"kind": "backends", "model": each, "backends": {addresses[each]: 1.0}, "tls": False}
        for each in step_models(model.spec)
    }
    place = Place(
        listen={"grpc": "127.0.0.1:0"},
        edge={"kind": "backends", "backends": {addresses["search"]: 1.0}, "digest": "sha256:0", "variant": "int8"},
        larger=None,
        cascade="",
        data="/nowhere",
        extra={"pipeline": pipeline_config(model.spec, at, shown)},
    )
    return Config.model_validate_json(json.dumps(gateway_config("search", model.spec.edge, place)))


@contextlib.asynccontextmanager
async def guarded(models: dict[str, dict[str, float]], front: Front, clients: Clients) -> AsyncIterator[str]:
    """A gateway with TLS that knows its clients; its address."""
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(
        serve(Options(models=models, version="1", port=0, front=front, clients=clients), stop, listening)
    )
    try:
        yield (await listening)["grpc"]
    finally:
        stop.set()
        await task


class Stage:
    """Servers of all models, and the gateway before them."""

    def __init__(self, engine: Path | None = None) -> None:
        self.engine = engine
        """Folder of the first model, where it is in the gateway's process."""
        self.search = Model("search", embed, {"EMBEDDING": ("FP32", [-1, 2]), "PROVENANCE": ("BYTES", [-1, 1])})
        self.head = Model("head", decide, {"scores": ("FP32", [-1, 3]), "best": ("INT64", [-1, 1])})
        self.topics = Model("topics", topics, {"LABEL": ("BYTES", [-1, 1])})
        self.both = Model("both", both, {"said": ("BYTES", [-1, 1])})
        self.models = (self.search, self.head, self.topics, self.both)
        self.front: tuple[Front, Clients] | None = None
        """Certificate and clients of a gateway before `topics`."""
        self.shown: dict[str, dict[str, Any]] = {}
        self.address = ""
        self.asked: Any = None

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[triton.InferenceServerClient]:
        async with contextlib.AsyncExitStack() as held:
            for model in self.models:
                server = Server(dict(model.methods()))
                model.address = f"127.0.0.1:{await server.listen('127.0.0.1', 0)}"
                held.push_async_callback(server.drain, 2.0)
            addresses = {each.name: each.address for each in self.models}
            if self.front is not None:
                addresses["topics"] = await held.enter_async_context(guarded({"topics": {self.topics.address: 1.0}}, *self.front))
            stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
            config = configuration(addresses, self.shown)
            if self.engine is not None:
                here = {"kind": "engine", "folder": str(self.engine), "digest": "sha256:0", "variant": "int8", "threads": 1}
                config = Config.model_validate({**config.model_dump(), "edge": here})
            options = Options(models={}, version="1", port=0, config=config)
            task = asyncio.ensure_future(serve(options, stop, listening))
            self.address = (await listening)["grpc"]
            try:
                async with triton.InferenceServerClient(self.address) as client:
                    yield client
            finally:
                stop.set()
                await task


TEXTS = [b"tree", b"a field", b"eel"]
EMBEDDED = embed({"TEXT": np.array(TEXTS, dtype=object)})["EMBEDDING"]
SCORES = EMBEDDED @ WEIGHT


def request() -> triton.InferInput:
    given = triton.InferInput("TEXT", [len(TEXTS), 1], "BYTES")
    given.set_data_from_numpy(np.array(TEXTS, dtype=object)[:, np.newaxis])
    return given


def test_a_step_behind_a_gateway_is_asked_as_that_one_wants_it(tmp_path: Path) -> None:
    certificates(tmp_path)
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "search").write_text("a-token-of-the-pipeline")
    (tmp_path / "token").write_text("a-token-of-the-pipeline")
    front = Front(Files(tmp_path / "server.crt", tmp_path / "server.key"), None)
    tls = {"tls": True, "authority": str(tmp_path / "authority.crt")}

    async def work() -> None:
        for shown, refused in ((tls, "token"), ({**tls, "token": str(tmp_path / "token")}, "")):
            stage = Stage()
            stage.front, stage.shown = (front, Clients(tmp_path / "tokens")), {"topic": shown}
            async with stage.client() as client:
                if refused:
                    with pytest.raises(InferenceServerException, match=refused):
                        await client.infer("search", [request()])
                    assert not stage.topics.seen
                else:
                    answer = await client.infer("search", [request()])
                    assert answer.as_numpy("TOPIC").ravel().tolist() == [b"t", b"a", b"e"]

    run(work())


def test_several_models_answer_as_one() -> None:
    async def work() -> None:
        stage = Stage()
        async with stage.client() as client:
            answer = await client.infer("search", [request()], request_id="r1", parameters={"provenance": True})
            np.testing.assert_array_equal(answer.as_numpy("EMBEDDING"), EMBEDDED)
            np.testing.assert_array_equal(answer.as_numpy("SCORES"), SCORES)
            assert answer.as_numpy("TOPIC").ravel().tolist() == [b"t", b"a", b"e"]
            said = [b"%d %s" % (best, topic) for best, topic in zip(SCORES.argmax(axis=1), (b"t", b"a", b"e"), strict=True)]
            assert answer.as_numpy("SAID").ravel().tolist() == said
            response = answer.get_response()
            assert [each.name for each in response.outputs] == ["EMBEDDING", "SCORES", "TOPIC", "SAID"]
            assert (response.model_name, response.model_version, response.id) == ("search", "7", "r1")
            told = response.parameters
            assert told["digest"].string_param == "sha256:search"
            assert told["step.topic.digest"].string_param == "sha256:topics"
            assert all(told[f"step.{name}.ms"].double_param > 0 for name in ("base", "decide", "topic", "last"))
            assert all(each.seen[0].parameters["provenance"].bool_param and each.seen[0].id == "r1" for each in stage.models)
            assert [each.name for each in stage.head.seen[0].outputs] == ["best", "scores"], "only what is of use"
            assert not stage.search.seen[0].outputs
            # The bytes of one answer are those of the next request.
            assert stage.head.seen[0].raw_input_contents[0] == EMBEDDED.tobytes()
            metadata = await client.get_model_metadata("search")
            assert (metadata.name, metadata.platform, list(metadata.versions)) == ("search", "stillhouse_pipeline", ["7"])
            assert [(each.name, each.datatype, list(each.shape)) for each in metadata.outputs] == [
                ("EMBEDDING", "FP32", [-1, 2]),
                ("PROVENANCE", "BYTES", [-1, 1]),
                ("SCORES", "FP32", [-1, 3]),
                ("TOPIC", "BYTES", [-1, 1]),
                ("SAID", "BYTES", [-1, 1]),
            ]
            stats = (await client.get_inference_statistics("search")).model_stats[0]
            assert (stats.inference_count, stats.inference_stats.success.count, stats.inference_stats.fail.count) == (3, 1, 0)
            with pytest.raises(InferenceServerException, match="there is no model 'head'; there is search"):
                await client.infer("head", [request()])
            with pytest.raises(InferenceServerException, match=r"step base \(search\)"):
                await client.get_model_config("search")

    run(work())


def test_the_first_model_may_be_in_the_gateways_process(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", dimension=2)

    async def work() -> None:
        stage = Stage(tmp_path / "model")
        async with stage.client() as client:
            answer = await client.infer("search", [request()], parameters={"provenance": True})
            expected = Engine(tmp_path / "model").embed([text.decode() for text in TEXTS])
            np.testing.assert_allclose(answer.as_numpy("EMBEDDING"), expected, atol=1e-6)
            np.testing.assert_allclose(answer.as_numpy("SCORES"), expected @ WEIGHT, atol=1e-5)
            assert json.loads(answer.as_numpy("PROVENANCE")[0, 0])["digest"] == "sha256:0"
            assert answer.get_response().parameters["variant"].string_param == "int8"
            only = await client.infer("search", [request()], outputs=[triton.InferRequestedOutput("SAID")])
            assert [each.name for each in only.get_response().outputs] == ["SAID"]
            assert not stage.search.seen
            metadata = await client.get_model_metadata("search")
            # What the model says of itself as a leg (CONFIDENCE, LEG) is none of the whole's, which would refuse it.
            assert {each.name for each in metadata.outputs} == {"EMBEDDING", "PROVENANCE", "SCORES", "TOPIC", "SAID"}
            every = [triton.InferRequestedOutput(each.name) for each in metadata.outputs]
            assert len((await client.infer("search", [request()], outputs=every)).get_response().outputs) >= 4
            assert await client.is_model_ready("search")
            config = (await client.get_model_config("search")).config
            assert (config.name, config.platform, config.max_batch_size) == ("search", "stillhouse_pipeline", 32)
            assert {each.name for each in config.output} == {"EMBEDDING", "PROVENANCE", "SCORES", "TOPIC", "SAID"}
            assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [
                ("TEXT", model_config_pb2.TYPE_STRING, [1])
            ]
            said = config.parameters
            assert json.loads(said["stillhouse.labels"].string_value) == []
            assert said["stillhouse.digest"].string_value == "sha256:0"

    run(work())


def test_steps_of_an_artifact_run_in_the_gateways_process_too(tmp_path: Path) -> None:
    """What Triton answers by its ensemble, `still edge` answers without Triton."""
    write_tiny_model(tmp_path)
    regression = Regression.random(16, 3)
    regression.write(tmp_path / step_file("decide"))
    write_rule(tmp_path / step_file("rule"), 3, 0.4)
    odds, choice = Tensor("odds", "FP32", (3,)), Tensor("choice", "INT64", (1,), flat=True)
    features = Tensor("features", "FP32", (16,))
    steps = [
        Step("decide", {"features": "EMBEDDING"}, {"odds": "ODDS", "choice": "CHOICE"}, (features,), (odds, choice)),
        Step(
            "rule",
            {"odds": "decide.odds", "choice": "decide.choice"},
            {"sure": "SURE"},
            (odds, choice),
            (Tensor("sure", "BOOL", (1,)),),
        ),
    ]
    write_steps(steps, tmp_path)

    async def work() -> None:
        engine = {"kind": "engine", "folder": str(tmp_path), "digest": "sha256:0", "variant": "int8", "threads": 1}
        config = Config.model_validate({"version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"}, "edge": engine})
        stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(serve(Options(models={}, version="1", port=0, config=config), stop, listening))
        async with triton.InferenceServerClient((await listening)["grpc"]) as client:
            answer = await client.infer("m", [request()])
            expected = Engine(tmp_path).embed([text.decode() for text in TEXTS])
            np.testing.assert_allclose(answer.as_numpy("EMBEDDING"), expected, atol=1e-6)
            said = regression.odds(expected)
            np.testing.assert_allclose(answer.as_numpy("ODDS"), said, atol=1e-5)
            np.testing.assert_array_equal(answer.as_numpy("CHOICE"), said.argmax(axis=1)[:, np.newaxis])
            np.testing.assert_array_equal(answer.as_numpy("SURE")[:, 0], (said[:, 0] > 0.4) & (said.argmax(axis=1) == 0))
            metadata = await client.get_model_metadata("m")
            shapes = {each.name: (each.datatype, list(each.shape)) for each in metadata.outputs}
            assert shapes["CHOICE"] == ("INT64", [-1, 1])
            assert shapes["SURE"] == ("BOOL", [-1, 1])
            assert await client.is_model_ready("m")
        stop.set()
        await task

    run(work())


def test_who_names_outputs_has_only_those_steps_run() -> None:
    async def work() -> None:
        stage = Stage()
        async with stage.client() as client:
            answer = await client.infer("search", [request()], outputs=[triton.InferRequestedOutput("SCORES")])
            assert [each.name for each in answer.get_response().outputs] == ["SCORES"]
            assert [len(each.seen) for each in stage.models] == [1, 1, 0, 0]
            assert [each.name for each in stage.search.seen[0].outputs] == ["EMBEDDING"]
            answer = await client.infer("search", [request()], outputs=[triton.InferRequestedOutput("TOPIC")])
            assert answer.as_numpy("TOPIC").ravel().tolist() == [b"t", b"a", b"e"]
            assert [len(each.seen) for each in stage.models] == [1, 1, 1, 0]
            with pytest.raises(InferenceServerException, match="no output 'ODD'; there is EMBEDDING, PROVENANCE, SCORES"):
                await client.infer("search", [request()], outputs=[triton.InferRequestedOutput("ODD")])

    run(work())


def test_typed_contents_become_raw_ones() -> None:
    async def work() -> None:
        stage = Stage()
        async with stage.client(), grpc.aio.insecure_channel(stage.address) as channel:
            asked = message("ModelInferRequest")(model_name="search")
            asked.inputs.add(name="TEXT", datatype="BYTES", shape=[3, 1], contents={"bytes_contents": TEXTS})
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            response = message("ModelInferResponse").FromString(await call(asked.SerializeToString(), timeout=10))
            assert response.raw_output_contents[1] == SCORES.tobytes()
            asked.inputs[0].name = "WORDS"
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await call(asked.SerializeToString(), timeout=10)
            assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert told.value.details() == "search takes the tensor TEXT; the request has WORDS"

    run(work())


@pytest.mark.parametrize(
    ("model", "error", "code", "words"),
    [
        (
            "search",
            RpcError(Code.INVALID_ARGUMENT, "TEXT[0]: no UTF-8"),
            "INVALID_ARGUMENT",
            "step base (search): TEXT[0]: no UTF-8",
        ),
        ("head", RpcError(Code.INVALID_ARGUMENT, "wrong shape"), "INTERNAL", "step decide (head): wrong shape"),
        ("topics", RpcError(Code.RESOURCE_EXHAUSTED, "full"), "RESOURCE_EXHAUSTED", "step topic (topics): full"),
        ("both", RpcError(Code.NOT_FOUND, "no such model"), "UNAVAILABLE", "step last (both): no such model"),
    ],
)
def test_an_error_names_its_step(model: str, error: RpcError, code: str, words: str) -> None:
    async def work() -> None:
        stage = Stage()
        next(each for each in stage.models if each.name == model).error = error
        async with stage.client() as client:
            with pytest.raises(InferenceServerException) as told:
                await client.infer("search", [request()])
            assert (told.value.status(), told.value.message()) == (f"StatusCode.{code}", words)
            stats = (await client.get_inference_statistics("search")).model_stats[0]
            assert (stats.inference_stats.success.count, stats.inference_stats.fail.count) == (0, 1)

    run(work())


def test_steps_that_need_nothing_of_each_other_run_at_once_and_end_together() -> None:
    async def work() -> None:
        stage = Stage()
        stage.search.wait = stage.topics.wait = asyncio.Event()
        async with stage.client() as client:
            asked = asyncio.ensure_future(client.infer("search", [request()]))
            await until(lambda: bool(stage.search.seen and stage.topics.seen))
            stage.search.wait.set()
            assert (await asked).as_numpy("SAID") is not None
            stage.search.wait = asyncio.Event()
            stage.topics.wait, stage.topics.error = None, RpcError(Code.RESOURCE_EXHAUSTED, "full")
            with pytest.raises(InferenceServerException, match="step topic"):
                await client.infer("search", [request()])
            await until(lambda: stage.search.cancelled == 1)

    run(work())


def test_a_client_that_leaves_takes_its_steps_along() -> None:
    async def work() -> None:
        stage = Stage()
        stage.head.wait = asyncio.Event()
        async with stage.client() as client:
            asked = asyncio.ensure_future(client.infer("search", [request()]))
            await until(lambda: bool(stage.head.seen))
            asked.cancel()
            await until(lambda: stage.head.cancelled == 1)
            assert not stage.both.seen

    run(work())


def test_a_deadline_ends_the_step_that_is_under_way() -> None:
    async def work() -> None:
        stage = Stage()
        stage.both.wait = asyncio.Event()
        async with stage.client(), grpc.aio.insecure_channel(stage.address) as channel:
            asked = message("ModelInferRequest")(model_name="search")
            asked.inputs.add(name="TEXT", datatype="BYTES", shape=[1, 1], contents={"bytes_contents": TEXTS[:1]})
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")(asked.SerializeToString(), timeout=1.5)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await call
            assert told.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            await until(lambda: stage.both.cancelled == 1)

    run(work())


def test_it_is_ready_when_every_step_is() -> None:
    async def work() -> None:
        stage = Stage()
        async with stage.client() as client:
            assert await client.is_model_ready("search")
            stage.both.ready = False
            assert not await client.is_model_ready("search")

    run(work())


def test_what_is_together_or_alone_is_not_joined_by_the_gateway() -> None:
    for base in ("image", "text"):
        spec = parse(complete(base)).spec
        assert pipeline_config(spec, {}) is None
        assert not step_models(spec)
