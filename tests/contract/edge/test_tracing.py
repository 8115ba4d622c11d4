"""Traces through a gateway: who called, what the backend is told, and what a collector gets, or does not."""

from __future__ import annotations

import json
import queue
import time
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc as triton
from tests.support.cascades import SIGNATURE, TableLeg, ask_body, call, policy, read
from tests.support.collector import Collector, collector, told
from tests.support.kube.process import free_port
from tests.support.oip_backend import Site, site
from tests.support.wire import run
from tritonclient.utils import InferenceServerException

from stillhouse.edge.cascade.away import AwaySettings, Way
from stillhouse.edge.cascade.cascade import Cascade
from stillhouse.edge.cascade.legs import Rows
from stillhouse.edge.cascade.question import Question
from stillhouse.edge.cascade.stages import Stage
from stillhouse.edge.status import Code, RpcError
from stillhouse.edge.tracing.spans import Telemetry, Tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
REST = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}


def request() -> triton.InferInput:
    given = triton.InferInput("x", [1], "FP32")
    given.set_data_from_numpy(np.array([1], np.float32))
    return given


def infer(there: Site, headers: dict[str, str] | None = None, **more: Any) -> None:
    with triton.InferenceServerClient(there.grpc) as client:
        assert client.infer("echo", [request()], headers=headers, **more).as_numpy("x").tolist() == [1]


def ask(there: Site, headers: dict[str, str] | None = None) -> None:
    answer = requests.post(f"http://{there.rest}/v2/models/echo/infer", json.dumps(REST), headers=headers, timeout=30)
    assert answer.json()["outputs"][0]["data"] == [1]


def seen(there: Site) -> tuple[str, str, str]:
    """Return trace, span and flags that the backend was told."""
    _, trace, span, flags = there.backend.metadata["traceparent"].split("-")
    return trace, span, flags


def test_without_a_collector_contexts_pass_unchanged_and_none_is_made() -> None:
    with site() as there:
        for each in (infer, ask):
            each(there, PARENT)
            assert {name: there.backend.metadata[name] for name in PARENT} == PARENT
            each(there, {**PARENT, "traceparent": "00-malformed", "x-other": "1"})
            assert there.backend.metadata.get("x-other") == "1" and not set(PARENT) & set(there.backend.metadata)
            each(there)
            assert not set(PARENT) & set(there.backend.metadata)


@pytest.mark.parametrize("front", [infer, ask], ids=["grpc", "rest"])
def test_a_call_continues_its_callers_trace(front: Any) -> None:
    with collector() as spans:
        with site(telemetry=Telemetry(spans.url)) as there:
            front(there, PARENT)
            trace, span, flags = seen(there)
            assert (trace, flags, there.backend.metadata["tracestate"]) == (TRACE, "01", "vendor=1") and span != SPAN
            front(there)  # nobody's: a trace begins
            other, first, flags = seen(there)
            assert other != TRACE and flags == "01" and "tracestate" not in there.backend.metadata
            front(there, {"traceparent": f"00-{TRACE}-{SPAN}-00"})  # its caller keeps none of it: neither do we
            assert (seen(there)[0], seen(there)[2]) == (TRACE, "00") and seen(there)[1] not in (span, SPAN)
            front(there, {"traceparent": "malformed"})
            last = seen(there)
        found = {each.span_id.hex(): each for each in spans.spans}
        assert found.keys() == {span, first, last[1]} and last[0] not in (TRACE, other)
        assert (found[span].trace_id.hex(), found[span].parent_span_id.hex(), found[span].kind) == (TRACE, SPAN, 2)
        assert (found[first].trace_id.hex(), found[first].parent_span_id) == (other, b"")
        assert found[span].name == "inference.GRPCInferenceService/ModelInfer"
        assert told(found[span]) == {
            "rpc.system": "grpc", "rpc.service": "inference.GRPCInferenceService", "rpc.method": "ModelInfer",
            "rpc.grpc.status_code": 0, "client.address": "127.0.0.1", "stillhouse.model": "echo", "stillhouse.leg": "edge",
            "stillhouse.confidence": 0.75,
        }  # fmt: skip
        assert found[span].end_time_unix_nano > found[span].start_time_unix_nano and spans.services == {"stillhouse-gateway"}


def test_a_share_of_the_traces_that_begin_here_is_kept() -> None:
    with collector() as spans:
        with site(telemetry=Telemetry(spans.url, sample=0.0)) as there:
            infer(there)
            assert seen(there)[2] == "00"
            infer(there, PARENT)
        assert [each.trace_id.hex() for each in spans.spans] == [TRACE]


def test_how_a_call_ends_stands_in_its_span() -> None:
    with collector() as spans:
        with site(telemetry=Telemetry(spans.url)) as there, triton.InferenceServerClient(there.grpc) as client:
            for code in (Code.INVALID_ARGUMENT, Code.UNAVAILABLE):
                with pytest.raises(InferenceServerException):
                    client.infer("echo", [request()], parameters={"fail": int(code)})
            with pytest.raises(InferenceServerException):
                client.infer("nobody", [request()])
            with pytest.raises(InferenceServerException):
                client.infer("echo", [request()], client_timeout=0.3, parameters={"slow": 30.0})
            answers: queue.Queue[Any] = queue.Queue()
            client.start_stream(lambda result, error: answers.put((result, error)), headers=PARENT)
            for _ in range(2):
                client.async_stream_infer("echo", [request()])
            assert [answers.get(timeout=20)[1] for _ in range(2)] == [None, None]
            client.stop_stream()
        found = [(told(each)["rpc.grpc.status_code"], each.status.code) for each in spans.spans]
        late = found[3][0]
        assert late in (Code.DEADLINE_EXCEEDED, Code.CANCELLED)  # both ends have the same deadline
        assert found == [(3, 0), (14, 2), (5, 0), (late, 2 if late == 4 else 0), (0, 0), (0, 0)]
        assert [each.parent_span_id.hex() for each in spans.spans[4:]] == [SPAN, SPAN]


def test_no_call_waits_for_a_collector_that_does_not_answer_or_is_not_there() -> None:
    with collector() as spans:
        spans.held.set()
        with site(telemetry=Telemetry(spans.url, queue=4, batch=2, delay_s=0.01, close_s=0.2)) as there:
            with triton.InferenceServerClient(there.grpc) as client:
                for _ in range(50):
                    client.infer("echo", [request()])
            assert len(there.backend.requests) == 50 and spans.asked == 1  # one sending waits; the queue holds four, no more
    with site(telemetry=Telemetry(f"http://127.0.0.1:{free_port()}", delay_s=0.01, close_s=0.2)) as there:
        for _ in range(5):
            infer(there)


def test_each_leg_of_a_cascade_is_a_span_of_its_own() -> None:
    legs = [
        Watched("edge", time.monotonic, lambda _: [0.5, 0.3, 0.2]),
        Watched("cloud", time.monotonic, lambda _: [0.9, 0.1, 0.0]),
    ]
    way = Way(legs[1], AwaySettings(), sleep=at_once)
    cascade = Cascade("m", SIGNATURE, [Stage(legs[0], policy(0.8)), Stage(way, None)])

    async def work(spans: Collector) -> None:
        tracing = Tracing(Telemetry(spans.url))
        traced = tracing.around(cascade.infer)
        one = call(traceparent=PARENT["traceparent"].encode())
        assert read((await traced(one, ask_body(["x"]))).message)[1]["leg"] == "cloud" and one.span is None
        legs[1].script = [RpcError(Code.UNAVAILABLE)] * 9
        assert read((await traced(one, ask_body(["x"]))).message)[1]["away"] == "answer"
        await tracing.close()

    with collector() as spans:
        run(work(spans))
        edge, cloud, whole, _, failed, _ = spans.spans
        assert whole.parent_span_id.hex() == SPAN and {each.trace_id.hex() for each in spans.spans} == {TRACE}
        assert {edge.parent_span_id, cloud.parent_span_id} == {whole.span_id} and (edge.kind, cloud.kind) == (1, 3)
        assert [each.span_id.hex() for each in (edge, cloud)] == [legs[0].told[0], legs[1].told[0]]
        assert [told(each)["stillhouse.leg"] for each in (edge, cloud, whole)] == ["edge", "cloud", "cloud"]
        assert (told(failed)["rpc.grpc.status_code"], failed.status.code) == (14, 2)
        assert told(whole)["stillhouse.threshold"] == 0.8 and told(whole)["stillhouse.escalated"] == 1


async def at_once(_: float) -> None:
    pass


class Watched(TableLeg):
    """A leg that keeps the spans that it was called by."""

    told: list[str]

    async def ask(self, question: Question, until: float) -> Rows:
        self.told = [*getattr(self, "told", []), str(dict(question.metadata)["traceparent"]).split("-")[2]]
        return await super().ask(question, until)
