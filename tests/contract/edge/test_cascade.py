"""A cascade on loopback, with real models: what any client of the protocol gets, and what the disk queue keeps."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tests.support.cascade_site import CLOUD_DIGEST, DOWN, Cloud, Site, half_go_on
from tests.support.cascades import DIGEST, ask_body, call, parameters, read, write_cascade
from tests.support.edge_cascade_life import cascade_of
from tests.support.tiny_model import TABLE, write_tiny_model
from tests.support.wire import run, until
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

from stillhouse.clients.triton import TritonClient
from stillhouse.edge.away.breaker import BreakerPolicy
from stillhouse.edge.away.deadlines import DeadlinePolicy
from stillhouse.edge.away.records import Limits, QueueState
from stillhouse.edge.away.retries import RetryPolicy
from stillhouse.edge.cascade.about import CONFIG
from stillhouse.edge.cascade.away import AwaySettings
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.engine import EngineSettings
from stillhouse.edge.cascade.later import Delivered, Later, LaterSettings
from stillhouse.edge.cascade.observing import Observer
from stillhouse.edge.cascade.policy import load
from stillhouse.edge.cascade.remote import Remote, RemoteLeg
from stillhouse.edge.cascade.stages import Stage
from stillhouse.edge.economics import Usage
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.wire.client import Channel
from stillhouse.entrypoints.edge.asking import Asked
from stillhouse.entrypoints.edge.asking import ask as ask_gateway
from stillhouse.errors import UsageError
from stillhouse.inference.confidence import Calibration, nearest, peak
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Signature, Task

TEXTS = ["read a file", "the path of a value", "", "write the name of the list", "open", "return"]
QUICK = RetryPolicy(attempts=1)

PARENT = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifiers whose threshold sends half of the texts on."""
    return half_go_on(tmp_path_factory.mktemp("texts"), TEXTS)


def infer(address: str, texts: list[str], *outputs: str, **how: Any) -> Any:
    with triton.InferenceServerClient(address) as client:
        tensor = triton.InferInput("TEXT", [len(texts), 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[each.encode()] for each in texts], dtype=object))
        return client.infer("m", [tensor], outputs=[triton.InferRequestedOutput(each) for each in outputs] or None, **how)


def on(folder: Path, work: Callable[[Site], Coroutine[Any, Any, None]], **how: Any) -> None:
    async def main() -> None:
        async with Site.run(folder, **how) as site:
            await work(site)

    run(main())


def test_a_client_gets_each_row_from_the_leg_that_is_sure(texts: Path) -> None:
    small, large = Engine(texts / "edge"), Engine(texts / "cloud")

    async def work(site: Site) -> None:
        outputs = ("PROBABILITIES", "LABEL", "LEG", "CONFIDENCE", "PROVENANCE")
        how = {"parameters": {"provenance": True, "trace": True}, "headers": {"traceparent": PARENT, "authorization": "Bearer t"}}
        found = await asyncio.to_thread(infer, site.address, TEXTS, *outputs, **how)
        legs = found.as_numpy("LEG").ravel().tolist()
        assert sorted(legs) == [b"cloud"] * 3 + [b"edge"] * 3
        by = {b"edge": small.predict(TEXTS), b"cloud": large.predict(TEXTS)}
        expected = np.stack([by[leg][row] for row, leg in enumerate(legs)])
        np.testing.assert_allclose(found.as_numpy("PROBABILITIES"), expected, atol=1e-6)
        labels = [small.signature.labels[at].encode() for at in expected.argmax(axis=1)]
        assert found.as_numpy("LABEL").ravel().tolist() == labels
        told = parameters(found.get_response())
        assert (told["leg"], told["escalated"], told["variant"]) == ("mixed", 3, "int8,fp32")
        assert told["confidence"] == pytest.approx(by[b"edge"].max(axis=1).min())
        assert {"trace_edge_ms", "trace_cloud_ms", "trace_queue_ms", "trace_total_ms", "trace_batch"} <= set(told)
        digests = [json.loads(each)["digest"] for each in found.as_numpy("PROVENANCE").ravel()]
        assert digests == [DIGEST if leg == b"edge" else CLOUD_DIGEST for leg in legs]
        (request,) = site.cloud.requests
        assert request.inputs[0].shape == [3, 1] and "trace" not in request.parameters
        (metadata,) = site.cloud.metadata
        assert metadata["traceparent"] == PARENT and metadata["x-key"] == "s" and "authorization" not in metadata

    on(texts, work)


@pytest.mark.parametrize(("outputs", "told"), [(set(), []), ({"PROVENANCE"}, [CLOUD_DIGEST])])
def test_the_clouds_digest_is_given_where_it_tells_one(texts: Path, outputs: set[str], told: list[str]) -> None:
    async def work(site: Site) -> None:
        larger = RemoteLeg(Remote("m", provenance=False), Channel(f"{site.address}"), site.edge.signature)
        larger.offers(outputs)
        stages = [Stage(site.edge, load(texts / "cascade", DIGEST)), Stage(larger, None)]
        cascade = Cascade("m", site.edge.signature, stages)
        unsure = Engine(texts / "edge").predict(TEXTS).max(axis=1).argsort()
        for rows, digests in ((unsure[:1], told), (unsure, [DIGEST, *told])):
            body = ask_body([TEXTS[row] for row in rows])
            tensors, parameters_ = read((await cascade.infer(call(), body)).message)
            assert parameters_.get("digest", "").split(",") == (digests or [""])
            assert ("digest" in parameters_) == bool(digests) and "PROVENANCE" not in tensors
        await larger.close()

    on(texts, work)


def test_what_the_cascade_says_of_itself(texts: Path) -> None:
    async def work(site: Site) -> None:
        def ask() -> None:
            with triton.InferenceServerClient(site.address) as client:
                assert client.is_model_ready("m") and client.is_server_ready()
                assert [each.name for each in client.get_model_repository_index().models] == ["m"]
                told = client.get_model_metadata("m")
                assert [(each.name, each.datatype, list(each.shape)) for each in told.inputs] == [("TEXT", "BYTES", [-1, 1])]
                assert [(each.name, each.datatype, list(each.shape)) for each in told.outputs] == [
                    ("LABEL", "BYTES", [-1, 1]), ("PROBABILITIES", "FP32", [-1, 3]), ("CONFIDENCE", "FP32", [-1, 1]),
                    ("LEG", "BYTES", [-1, 1]), ("PROVENANCE", "BYTES", [-1, 1]),
                ]  # fmt: skip
                config = client.get_model_config("m").config
                assert (config.max_batch_size, config.platform) == (32, "stillhouse_cascade")
                assert config.output[1].data_type == model_config_pb2.TYPE_FP32 and list(config.output[1].dims) == [3]
                with pytest.raises(InferenceServerException, match="no version"):
                    client.get_model_metadata("m", "2")
                client.infer("m", [_input(["open"])])
                assert client.get_inference_statistics("m").model_stats[0].inference_count == 1
            with TritonClient(site.address) as ours:
                said = ours.parameters("m")
                names = ("digest", "labels", "task")
                expected = [DIGEST, '["no", "yes", "perhaps"]', "text-classification"]
                assert [said[f"stillhouse.{name}"] for name in names] == expected
                assert said["stillhouse.cascade.legs"] == '["edge", "cloud"]'

        await asyncio.to_thread(ask)

    on(texts, work)


def _input(texts: list[str]) -> Any:
    tensor = triton.InferInput("TEXT", [len(texts), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[each.encode()] for each in texts], dtype=object))
    return tensor


def test_the_configurations_table_is_tritons() -> None:
    """Every field that we write has Triton's number; its enumeration is a number to us."""
    for message in CONFIG.file.message_type:
        module = service_pb2 if message.name.startswith("ModelConfigRe") else model_config_pb2
        theirs = getattr(module, message.name).DESCRIPTOR.fields_by_name
        for field in message.field:
            same = theirs[field.name]
            assert (field.number, field.label == field.LABEL_REPEATED) == (same.number, same.is_repeated), field.name


def test_a_stream_and_a_wrong_request(texts: Path) -> None:
    async def work(site: Site) -> None:
        with pytest.raises(InferenceServerException, match="allowed LABEL, PROBABILITIES"):
            await asyncio.to_thread(infer, site.address, ["a"], "NEIGHBOR")
        answers: list[Any] = []

        def stream() -> None:
            with triton.InferenceServerClient(site.address) as client:
                client.start_stream(lambda result, error: answers.append((result, error)))
                for text in TEXTS[:3]:
                    client.async_stream_infer("m", [_input([text])])
                client.stop_stream()

        await asyncio.to_thread(stream)
        assert [error for _, error in answers] == [None] * 3

    on(texts, work)


def test_requests_that_come_together_are_run_together(texts: Path) -> None:
    async def work(site: Site) -> None:
        channel_ = Channel(site.address)
        method = "/inference.GRPCInferenceService/ModelInfer"
        body = ask_body(["read a file"], parameters={"trace": True})
        replies = await asyncio.gather(*[channel_.unary(method, body) for _ in range(100)])
        told = [read(each.message) for each in replies]
        assert site.edge.batches.runs < 100 and max(parameters_["trace_batch"] for _, parameters_ in told) > 1
        assert all((tensors["PROBABILITIES"] == told[0][0]["PROBABILITIES"]).all() for tensors, _ in told)
        await channel_.close()

    on(texts, work, engine=EngineSettings("int8", waiting=1000))


def test_an_edge_with_too_much_to_do_lets_the_cloud_answer(texts: Path) -> None:
    async def work(site: Site) -> None:
        channel_ = Channel(site.address)
        body = ask_body(["read a file"])
        method = "/inference.GRPCInferenceService/ModelInfer"
        replies = await asyncio.gather(*[channel_.unary(method, body) for _ in range(60)])
        told = [read(each.message)[1] for each in replies]
        refused = [each for each in told if each.get("edge_error") == "RESOURCE_EXHAUSTED"]
        assert len(refused) == site.edge.batches.refused > 0 and {each["leg"] for each in refused} == {"cloud"}
        await channel_.close()

    on(texts, work, engine=EngineSettings("int8", waiting=2, most_rows=1))


def test_a_cloud_that_swallows_everything_leaves_time_for_the_edges_answer(texts: Path) -> None:
    async def work(site: Site) -> None:
        site.cloud.hangs = True
        found = await asyncio.to_thread(infer, site.address, TEXTS, "LEG", client_timeout=2.0)
        told = parameters(found.get_response())
        assert (told["away"], told["leg"]) == ("answer", "edge")
        await until(lambda: site.cloud.given_up == 1)
        assert site.cascade.ways[0].breaker.snapshot().failures == 1, "it had its fair time"

    on(texts, work, away=AwaySettings(deadlines=DeadlinePolicy(margin=1.0, fair=0.9)))


@pytest.mark.parametrize(
    ("task", "name", "shape"),
    [
        ("image-classification", "IMAGE", (3, 8, 8)),
        ("tabular-classification", "FEATURES", (4,)),
        ("time-series-classification", "FEATURES", (6, 2)),
    ],
)
def test_arrays(tmp_path: Path, task: Task, name: str, shape: tuple[int, ...]) -> None:
    for seed, leg in enumerate(("edge", "cloud")):
        write_tiny_model(tmp_path / leg, task=task, seed=seed)
    images = np.random.default_rng(3).random((4, *shape), dtype=np.float32)
    small, large = (Engine(tmp_path / name).predict_arrays(images) for name in ("edge", "cloud"))
    write_cascade(tmp_path / "cascade", task=task, threshold=float(np.median(small.max(axis=1))))

    async def work(site: Site) -> None:
        def ask(values: Any) -> Any:
            with triton.InferenceServerClient(site.address) as client:
                tensor = triton.InferInput(name, list(values.shape), "FP32")
                tensor.set_data_from_numpy(values)
                outputs = [triton.InferRequestedOutput(each) for each in ("PROBABILITIES", "LEG")]
                return client.infer("m", [tensor], outputs=outputs)

        found = await asyncio.to_thread(ask, images)
        legs = found.as_numpy("LEG").ravel().tolist()
        assert legs.count(b"edge") == 2
        expected = np.stack([(small if leg == b"edge" else large)[row] for row, leg in enumerate(legs)])
        np.testing.assert_allclose(found.as_numpy("PROBABILITIES"), expected, atol=1e-6)
        with pytest.raises(InferenceServerException, match="not finite"):
            await asyncio.to_thread(ask, np.full((1, *shape), np.nan, np.float32))
        if name == "FEATURES":
            row = images[1].tolist()
            typed = json.dumps(row if shape != (4,) else dict(zip(TABLE.columns, row, strict=True)))
            (told,) = await asyncio.to_thread(ask_gateway, "m", [typed], Asked(at=site.address))
            assert told["label"] == ("no", "yes", "perhaps")[int(expected[1].argmax())]

    on(tmp_path, work)


def test_a_search(tmp_path: Path) -> None:
    queries = ["read a file", "path name write", "return the list of name"]
    names = ["read a file", "the path of a value", "write the name", "open ready", "return the list of name"]
    write_tiny_model(tmp_path / "edge", dimension=16, seed=0)
    write_tiny_model(tmp_path / "cloud", dimension=24, seed=1)
    small, large = Engine(tmp_path / "edge"), Engine(tmp_path / "cloud")
    vectors = {"edge": small.embed(names), "larger": large.embed(names)}
    write_cascade(
        tmp_path / "cascade",
        task="sentence-embedding",
        names=names,
        threshold=_middle(small.embed(queries), vectors["edge"]),
        **vectors,
    )

    async def work(site: Site) -> None:
        found = await asyncio.to_thread(infer, site.address, queries, "NEIGHBOR", "SCORE", "LEG")
        legs = found.as_numpy("LEG").ravel().tolist()
        assert set(legs) == {b"edge", b"cloud"}
        for row, leg in enumerate(legs):
            engine, index = (small, vectors["edge"]) if leg == b"edge" else (large, vectors["larger"])
            scores = (engine.embed([queries[row]]) @ index.T)[0]
            best = np.argsort(-scores)[:2]
            assert found.as_numpy("NEIGHBOR")[row].tolist() == [names[at].encode() for at in best]
            np.testing.assert_allclose(found.as_numpy("SCORE")[row], scores[best], atol=1e-5)
        found = await asyncio.to_thread(infer, site.address, queries)
        assert found.as_numpy("EMBEDDING").shape == (3, 24), "one answer, one space"
        np.testing.assert_allclose(found.as_numpy("EMBEDDING"), large.embed(queries), atol=1e-6)

    on(tmp_path, work)


def _middle(embeddings: Any, index: Any) -> float:
    """Give a confidence between the least and the most sure query's, as `write_cascade` calibrates it."""
    sure = Calibration("platt", "peak", neighbours=3, slope=2.0).of_signal(peak(nearest(embeddings, index, 3)))
    return float(sure.min() + sure.max()) / 2


def test_a_cloud_that_speaks_otherwise(texts: Path) -> None:
    """Its own names and order of labels are given; what is no answer is the cloud's fault, and not the client's."""
    labels = ("yes", "perhaps", "no")
    signature = Signature.read(texts / "edge")
    order = [labels.index(each) for each in signature.labels]

    async def work(site: Site) -> None:
        where = f"127.0.0.1:{site.cloud.port}"
        leg = RemoteLeg(Remote("large", input="words", output="scores", labels=labels), Channel(where), signature)
        question = site.cascade._reader.read(ask_body(TEXTS), ())
        rows = await leg.ask(question, float("inf"))
        np.testing.assert_allclose(rows.values, Engine(texts / "cloud").predict(TEXTS)[:, order], atol=1e-6)
        assert site.cloud.requests[-1].inputs[0].name == "words"
        await leg.close()
        narrow = RemoteLeg(Remote("large"), Channel(where), Signature(**{**_fields(signature), "labels": ("a", "b")}))
        with pytest.raises(RpcError) as caught:
            await narrow.ask(question, float("inf"))
        assert caught.value.code == Code.INTERNAL and "not FP32 [6, 2]" in caught.value.message
        await narrow.close()

    on(texts, work)
    with pytest.raises(UsageError):
        RemoteLeg(Remote("large", labels=("a", "b", "c")), Channel("127.0.0.1:1"), signature)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_a_cloud_whose_values_are_all_no_numbers_is_away(texts: Path, value: float) -> None:
    """Else the first label would be its word. One poisonous input does not open the breaker for all."""

    async def work(site: Site) -> None:
        site.cloud.instead = np.array([[0.1, value, 0.2]] * 3)
        small = Engine(texts / "edge").predict(TEXTS)
        for _ in range(8):
            tensors, told = read((await site.cascade.infer(call(), ask_body(TEXTS, "PROBABILITIES", "LEG"))).message)
            assert (told["away"], told["leg"]) == ("answer", "edge")
            np.testing.assert_allclose(tensors["PROBABILITIES"], small, atol=1e-6)
        assert site.cascade.ways[0].breaker.snapshot().failures == 0

    on(texts, work)


def test_the_small_model_may_be_a_pool_of_servers(texts: Path) -> None:
    """One of its backends is down: the other one answers, and nobody beyond is asked for it."""

    async def work(site: Site) -> None:
        near = Cloud(texts / "edge")
        await near.listen()
        pool = Pool(Channel)
        pool.update({f"127.0.0.1:{near.port}": 1.0, "127.0.0.1:1": 1.0})
        remote = Remote("large", variant="int8", digest=DIGEST)
        signature = Signature.read(texts / "edge")
        edge = RemoteLeg(remote, pool, signature, name="edge", finite=False)
        stages = [Stage(edge, load(texts / "cascade", DIGEST)), Stage(site.cascade.ways[0], None)]
        cascade = Cascade("m", signature, stages)
        small, large = Engine(texts / "edge").predict(TEXTS), Engine(texts / "cloud").predict(TEXTS)
        for _ in range(4):
            tensors, told = read((await cascade.infer(call(), ask_body(TEXTS, "PROBABILITIES", "LEG"))).message)
            legs = tensors["LEG"].ravel().tolist()
            assert legs.count(b"edge") == 3 and "edge_error" not in told
            expected = np.stack([(small if leg == b"edge" else large)[row] for row, leg in enumerate(legs)])
            np.testing.assert_allclose(tensors["PROBABILITIES"], expected, atol=1e-6)
        await edge.close()
        await near.end()

    on(texts, work)


def _fields(signature: Signature) -> dict[str, Any]:
    return {name: getattr(signature, name) for name in ("task", "inputs", "output", "dimension", "labels", "max_length")}


class Sink:
    def __init__(self) -> None:
        self.got: list[Delivered] = []
        self.fails = 0

    async def __call__(self, delivered: Delivered) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("the sink's disk is full")
        self.got.append(delivered)


def test_what_is_kept_is_answered_later_and_the_client_finds_it_by_its_key(texts: Path, tmp_path: Path) -> None:
    sink = Sink()
    away = AwaySettings("queue", breaker=BreakerPolicy(open_base=0.05, open_max=0.1), retries=QUICK)
    large = Engine(texts / "cloud").predict(TEXTS)

    async def work(site: Site) -> None:
        usage = Usage()
        site.cascade.observer = Observer(usage, None, site.edge)
        site.cloud.error = DOWN
        mine: dict[str, Any] = {"headers": {"idempotency-key": "mine"}, "request_id": "9"}
        for _ in range(2):
            told = parameters((await asyncio.to_thread(infer, site.address, TEXTS, **mine)).get_response())
            assert (told["away"], told["queued"]) == ("queue", "mine")
        told = parameters((await asyncio.to_thread(infer, site.address, TEXTS[:5])).get_response())
        assert len(told["queued"]) == 36, "a key of ours"
        with pytest.raises(InferenceServerException, match="another request"):
            await asyncio.to_thread(infer, site.address, TEXTS[:2], **mine)
        sink.fails = 1
        site.cloud.error = None
        await until(lambda: len(sink.got) == 2)
        late = {each.key: read(each.body) for each in sink.got}
        tensors, told = late["mine"]
        np.testing.assert_allclose(tensors["PROBABILITIES"], large, atol=1e-6)
        assert (told["leg"], told["digest"], sink.got[0].owner) == ("cloud", CLOUD_DIGEST, "127.0.0.1")
        assert {each.get("idempotency-key") for each in site.cloud.metadata} >= set(late)
        assert site.later is not None
        queue = site.later.queue
        await until(lambda: queue.stand().delivered == 2)
        assert (usage.calls, usage.late) == (0, 3), "the one that the sink refused was answered twice"
        asked = len(site.cloud.requests)
        found = await asyncio.to_thread(infer, site.address, TEXTS, **mine)
        np.testing.assert_allclose(found.as_numpy("PROBABILITIES"), large, atol=1e-6)
        assert len(site.cloud.requests) == asked, "it was answered already"
        await site.later.taken("127.0.0.1", "mine")
        assert (await queue.outcome("127.0.0.1", "mine")).state == QueueState.READ  # type: ignore[union-attr]
        found = await asyncio.to_thread(infer, site.address, TEXTS, **mine)
        assert len(site.cloud.requests) == asked + 1, "what is gone is asked for anew"

    on(texts, work, away=away, queue=LaterSettings(tmp_path / "queue.sqlite3"), sink=sink)


def test_a_full_queue_promises_nothing_and_the_answer_is_given_all_the_same(texts: Path, tmp_path: Path) -> None:
    async def work(site: Site) -> None:
        site.cloud.error = DOWN
        for expected in ("queue", "answer"):
            told = parameters((await asyncio.to_thread(infer, site.address, TEXTS)).get_response())
            assert told["away"] == expected and ("queued" in told) == (expected == "queue")

    settings = LaterSettings(tmp_path / "queue.sqlite3", Limits(records=1))
    on(texts, work, away=AwaySettings("queue", retries=QUICK), queue=settings)


def test_killed_at_any_moment_what_a_client_was_told_is_kept_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite3"
    kept: dict[str, str] = {}
    for round_, lines in enumerate((3, 40, 90)):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.edge_cascade_life", str(path), f"r{round_}"], stdout=subprocess.PIPE, bufsize=0
        )
        assert process.stdout is not None
        told = b""
        try:
            while told.count(b"\n") < lines:
                piece = os.read(process.stdout.fileno(), 4096)
                assert piece, told
                told += piece
        finally:
            process.kill()
            rest, _ = process.communicate()
        for line in (told + rest).decode().splitlines():
            word, key, text = line.split()
            if word == "kept":
                kept[key] = text
    assert len(kept) >= 100
    sink = Sink()

    async def main() -> None:
        later = await Later.open(LaterSettings(path), sink)
        cascade = cascade_of(later, down=False)
        later.start()
        await until(lambda: len({each.key for each in sink.got}) >= len(kept) and not later.queue.stand().waiting)
        assert later.queue.stand().damaged == 0
        await later.close()
        await cascade.close()

    run(main())
    found = {each.key: read(each.body)[0]["LABEL"].tolist() for each in sink.got}
    assert {key: found.get(key) for key in kept} == {key: [[b"yes"]] for key in kept}


def test_another_model_is_told_what_there_is(texts: Path) -> None:
    async def work(site: Site) -> None:
        with pytest.raises(InferenceServerException, match="there is m"):
            await asyncio.to_thread(_other, site.address)

    on(texts, work)


def _other(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        client.infer("other", [_input(["a"])])
