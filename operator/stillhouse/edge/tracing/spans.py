"""Spans of calls, sent to a collector by OpenTelemetry's SDK (OTLP, protobuf over HTTP). It is imported only where it is used.

Spans wait in a queue of a fixed size and are sent from a thread of its own: whether the collector answers, slowly, or never, no
call waits for it; what the queue cannot hold is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from stillhouse.edge.oip.messages import message, value_of
from stillhouse.edge.status import Code, Metadata, Reply, RpcError, code_of
from stillhouse.edge.tracing.context import Context, carried, context_of
from stillhouse.edge.wire.call import Call
from stillhouse.edge.wire.server import Unary
from stillhouse.errors import UsageError

__all__ = ["Span", "Telemetry", "Tracing"]

_FAULTS = frozenset({Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS})
"""What is a server's error; the others are the client's (semantic conventions for gRPC)."""
_TOLD = ("variant", "digest", "leg", "confidence", "threshold", "escalated", "away")
"""Parameters of an answer that become attributes `stillhouse.…` of its span."""
_NAME, _PATH = "stillhouse-gateway", "/v1/traces"


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where spans go. `endpoint`: the collector's base URL, such as http://127.0.0.1:4318 (`/v1/traces` is added where missing).

    `sample`: share of the traces that begin here, 0 to 1; a call that comes with a context follows its flag. `queue`: spans that
    may wait; `batch`: that are sent at once, at the latest after `delay_s` seconds. `send_s`: how long one sending may
    take, `close_s`: the last one, at the end.
    """

    endpoint: str
    sample: float = 1.0
    name: str = _NAME
    queue: int = 4096
    batch: int = 512
    delay_s: float = 2.0
    send_s: float = 10.0
    close_s: float = 3.0

    def __post_init__(self) -> None:
        if not self.endpoint.startswith(("http://", "https://")):
            raise UsageError(
                "this is no collector",
                field="--telemetry, OTEL_EXPORTER_OTLP_ENDPOINT",
                found=self.endpoint[:200],
                allowed="http://HOST:PORT or https://HOST:PORT of one that takes OTLP over HTTP, mostly port 4318",
            )

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ, sample: float = 1.0) -> Telemetry | None:
        """Return what OpenTelemetry's own variables say, None where they name no collector for traces.

        Raises:
            UsageError: what they name is none; so does the class itself.
        """
        if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return None
        endpoint = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        return cls(endpoint, sample, environment.get("OTEL_SERVICE_NAME") or _NAME) if endpoint else None

    @property
    def url(self) -> str:
        """Where spans are posted to."""
        return self.endpoint if self.endpoint.endswith(_PATH) else self.endpoint.rstrip("/") + _PATH


class Span:
    """One span. `context` is what calls that belong to it are sent with. One that is not recorded has nothing but that."""

    __slots__ = ("_span", "_tracing", "context")

    def __init__(self, tracing: Tracing, span: Any, context: Context) -> None:
        self._tracing, self._span, self.context = tracing, span, context

    @property
    def recorded(self) -> bool:
        """Whether anything is kept of it."""
        return self._span is not None

    def set(self, name: str, value: str | bool | int | float) -> None:
        """Add an attribute."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def onward(self, metadata: Metadata) -> Metadata:
        """Return metadata that a call within it is sent with."""
        return carried(metadata, self.context)

    def leg(self, leg: str, *, remote: bool = True, **attributes: str | bool | int | float) -> Span:
        """Begin the span of a part of the work, such as a cascade's call to the larger model: whoever begins it ends it.

        `with span.leg(...)` does. `remote`: the work is somebody else's.
        """
        return self._tracing.within(self, leg, remote, attributes)

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.end(Code.OK)
        else:
            self.end(Code.CANCELLED if isinstance(error, asyncio.CancelledError) else code_of(error))

    def end(self, code: Code, *, server: bool = False) -> None:
        """Say how it ended. `server`: it is the span of the call that came, where a client's mistake is none of ours."""
        if self._span is None:
            return
        self._span.set_attribute("rpc.grpc.status_code", int(code))
        if code in _FAULTS or (code is not Code.OK and not server):
            self._span.set_status(self._tracing.error(code.name))
        self._span.end()


class Tracing:
    """Makes spans; `around` is how a handler gets one for each call, which it finds as `call.span`.

    It stands around everything that happens to a call: `Service` puts it around its inference, the door included.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        self._api, self._close_s, self._sample = trace, telemetry.close_s, telemetry.sample
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not recorded never comes there: that is 20 µs a call less
            resource=Resource.create({"service.name": telemetry.name}),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(telemetry.url, timeout=telemetry.send_s)
        self._processor = BatchSpanProcessor(
            exporter, telemetry.queue, telemetry.delay_s * 1000, min(telemetry.batch, telemetry.queue)
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("stillhouse.edge")
        self._answer = message("ModelInferResponse")

    def around(self, work: Unary) -> Unary:
        """Return a handler that gives each call a span."""

        async def handler(call: Call, body: bytes) -> Reply:
            span = call.span = self._begun(call)
            code = Code.INTERNAL
            try:
                reply = await work(call, body)
                code = Code.OK
                if span.recorded:
                    self._note(span, reply)
                return reply
            except RpcError as error:
                code = error.code
                raise
            except asyncio.CancelledError:
                late = call.deadline is not None and asyncio.get_running_loop().time() >= call.deadline
                code = Code.DEADLINE_EXCEEDED if late else Code.CANCELLED
                raise
            finally:
                call.span = None
                span.end(code, server=True)

        return handler

    def within(self, span: Span, name: str, remote: bool, attributes: Mapping[str, str | bool | int | float]) -> Span:
        """Begin a span of a part of a call."""
        if not span.recorded:
            return self._unrecorded(span.context.trace, span.context.state)
        parent = self._api.set_span_in_context(span._span)
        told = {**({"rpc.system": "grpc"} if remote else {}), "stillhouse.leg": name, **attributes}
        kind = self._api.SpanKind.CLIENT if remote else self._api.SpanKind.INTERNAL
        return self._recorded(name, parent, kind, told, span.context.state)

    def error(self, words: str) -> Any:
        """Return the status of a span that failed."""
        return self._api.Status(self._api.StatusCode.ERROR, words)

    async def close(self) -> None:
        """Send what waits, for `close_s` at most."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def send() -> None:
            try:
                self._provider.shutdown()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(done.set)

        # A thread that does not keep the process: a collector that never answers must not either.
        threading.Thread(target=send, daemon=True, name="last spans").start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), self._close_s)

    def _begun(self, call: Call) -> Span:
        try:
            came = context_of(call.metadata)
        except RpcError:  # a binary header that is none: the handler says so
            came = None
        if not (random.random() < self._sample if came is None else came.sampled):
            return self._unrecorded(*(("", "") if came is None else (came.trace, came.state)))
        parent = None
        if came is not None:
            flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
            remote = self._api.SpanContext(int(came.trace, 16), int(came.span, 16), is_remote=True, trace_flags=flags)
            parent = self._api.set_span_in_context(self._api.NonRecordingSpan(remote))
        service, _, method = call.method.strip("/").partition("/")
        told = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "client.address": call.peer.address}
        return self._recorded(f"{service}/{method}", parent, self._api.SpanKind.SERVER, told, came.state if came else "")

    def _recorded(self, name: str, parent: Any, kind: Any, told: Mapping[str, Any], state: str) -> Span:
        span = self._tracer.start_span(name, parent, kind, told)
        own = span.get_span_context()
        return Span(self, span, Context(f"{own.trace_id:032x}", f"{own.span_id:016x}", True, state))

    def _unrecorded(self, trace: str, state: str) -> Span:
        trace = trace or f"{random.getrandbits(128) or 1:032x}"
        return Span(self, None, Context(trace, f"{random.getrandbits(64) or 1:016x}", False, state))

    def _note(self, span: Span, reply: Reply) -> None:
        try:
            parameters = self._answer.FromString(reply.message).parameters
        except Exception:  # an answer of another kind has none
            return
        for name in _TOLD:
            if name in parameters and (value := value_of(parameters[name])) is not None:
                span.set(f"stillhouse.{name}", value)
