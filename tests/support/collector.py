"""An OpenTelemetry collector for tests: takes OTLP's protobuf over HTTP on loopback, and keeps the spans that it was sent."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

__all__ = ["Collector", "collector", "told"]


class Collector:
    """`spans`: all that have come; `services`: who sent them; `asked`: posts begun; `held`: while it is set, none is answered."""

    def __init__(self) -> None:
        self.spans: list[trace_pb2.Span] = []
        self.services: set[str] = set()
        self.held = threading.Event()
        self.free = threading.Event()
        self.asked = 0
        self.url = ""

    def take(self, body: bytes) -> None:
        for each in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {one.value.string_value for one in each.resource.attributes if one.key == "service.name"}
            self.spans.extend(span for scope in each.scope_spans for span in scope.spans)


def told(span: trace_pb2.Span) -> dict[str, Any]:
    """Return a span's attributes."""
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """Serve one on any free port."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.asked += 1
            body = self.rfile.read(int(self.headers["content-length"]))
            if found.held.is_set():
                found.free.wait(60)
            else:
                found.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        found.free.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
