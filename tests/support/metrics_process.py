"""The metrics API as a process, and the far side of what it scrapes: servers that count as Triton does, over real HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kubernetes import client
from tests.support.kube.control_plane import ControlPlane
from tests.support.kube.process import free_port
from tests.support.processes import ask, end
from tests.support.triton_text import triton_text

__all__ = ["FarPods", "MetricsProcess", "running_metrics"]

_START_S = 60.0


class FarPods:
    """Pods of one model on addresses 127.0.1.1, 127.0.1.2, … and one port.

    `rate` requests a second are shared among those that are up, each costing `service_s` of one instance.
    """

    def __init__(self, model: str, service_s: float = 0.01) -> None:
        self._model, self._service_s = model, service_s
        self._lock = threading.Lock()
        self._rate, self._since = 0.0, time.monotonic()
        self._ended: dict[str, float] = {}
        self._servers: list[ThreadingHTTPServer] = []
        self.port = 0

    @property
    def addresses(self) -> list[str]:
        """Addresses of those that are up."""
        return list(self._ended)

    def load(self, rate: float) -> None:
        """Ask `rate` requests a second from now on."""
        with self._lock:
            self._count()
            self._rate = rate

    def up(self, number: int) -> str:
        """Start the pod of that number, where it is not up; return its address."""
        address = f"127.0.1.{number + 1}"
        with self._lock:
            self._count()
            if address in self._ended:
                return address
            self._ended[address] = 1.0  # the warm-up
        far = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = far.text(address).encode()
                self.send_response(200 if self.path == "/metrics" else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer((address, self.port), Handler)
        self.port = server.server_address[1]
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return address

    def text(self, address: str) -> str:
        """Return what a pod says."""
        with self._lock:
            self._count()
            ended = self._ended[address]
        return triton_text(
            self._model, requests=ended, executions=ended, queue_us=ended * 1e3, compute_us=ended * self._service_s * 1e6
        )

    def close(self) -> None:
        """End them all."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _count(self) -> None:
        now = time.monotonic()
        for address in self._ended:
            self._ended[address] += self._rate * (now - self._since) / len(self._ended)
        self._since = now


@dataclass(frozen=True, slots=True)
class MetricsProcess:
    """A running metrics API. `port` is that behind TLS, `plain_port` the other."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    plain_port: int

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and text of an endpoint without TLS; 0 where it does not answer."""
        return ask(self.plain_port, path)


@contextmanager
def running_metrics(
    control_plane: ControlPlane,
    folder: Path,
    namespace: str,
    *,
    pod_port: int = 8002,
    name: str = "metrics",
    kubeconfig_text: str = "",
    models: str = "",
    service_port: int = 0,
) -> Iterator[MetricsProcess]:
    """Start the metrics API in `namespace`, which needs Secret and Service `stillhouse-metrics`; yield once it is ready.

    The Service is made here, as an ExternalName `localhost` with the process' port: the aggregator needs no node for that.
    `models` is the namespace whose models it looks at; empty: all. `service_port` is that of a Service that is there already, as
    the chart makes it; 0: the process' own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig, log = folder / f"{name}.kubeconfig", folder / f"{name}.log"
    kubeconfig.write_text(kubeconfig_text or control_plane.kubeconfig())
    port, plain = free_port(), free_port()
    with control_plane.client() as api:
        core = client.CoreV1Api(api)
        service = {"metadata": {"name": "stillhouse-metrics"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
        for create, body in (
            (core.create_namespaced_service, service),
            (core.create_namespaced_secret, {"metadata": {"name": "stillhouse-metrics"}}),
        ):
            try:
                create(namespace, body)
            except client.ApiException as error:
                if error.status != 409:
                    raise
    words = [sys.executable, "-m", "stillhouse.entrypoints.metrics", "serve", "--host=127.0.0.1", f"--port={port}"]
    words += [
        f"--plain-port={plain}",
        f"--service-port={service_port or port}",
        f"--own-namespace={namespace}",
        f"--namespace={models}",
    ]
    words += [f"--pod-port={pod_port}", "--context=test"]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with log.open("ab") as stream:
        process = subprocess.Popen(words, env=environment, stdout=stream, stderr=stream)
    running = MetricsProcess(process, log, port, plain)
    try:
        deadline = time.monotonic() + _START_S
        while (answer := running.ask("/readyz"))[0] != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the metrics API is not ready ({answer}): {log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield running
    finally:
        end(process)
