"""The operator as a process, against a control plane of the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client
from tests.support.kube.control_plane import ControlPlane
from tests.support.kube.process import free_port

from stillhouse.api.crd import crd, revision_crd

__all__ = ["Operator", "install_crds", "running_operator"]

_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Operator:
    """A running operator: its process, its log, its endpoint."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    identity: str

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and text of one of its endpoints; 0 where it does not answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = [line for line in self.ask("/metrics")[1].splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send a signal and wait; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def records(self) -> list[dict[str, Any]]:
        """Return its log, one object a line."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def install_crds(control_plane: ControlPlane) -> None:
    """Create both CRDs and wait until they are served; what is there already is left alone."""
    with control_plane.client() as api:
        extensions = client.ApiextensionsV1Api(api)
        for definition in (crd(), revision_crd()):
            try:
                extensions.create_custom_resource_definition(definition)
            except client.ApiException as error:
                if error.status != 409:
                    raise
        objects = client.CustomObjectsApi(api)
        deadline = time.monotonic() + 60
        for plural in ("distilledmodels", "modelrevisions"):
            while True:
                try:
                    objects.list_cluster_custom_object("stillhouse.io", "v1alpha1", plural)
                    break
                except client.ApiException as error:
                    if error.status != 404 or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)


@contextmanager
def running_operator(
    control_plane: ControlPlane,
    folder: Path,
    *,
    namespace: str = "",
    lease_namespace: str = "default",
    sources: Mapping[str, str] | None = None,
    identity: str = "one",
    kubeconfig_text: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Operator]:
    """Start an operator, yield it once it has listed the cluster, end it. Without a kubeconfig it is the administrator."""
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig, given, log = folder / "kubeconfig", folder / "settings.json", folder / f"{identity}.log"
    kubeconfig.write_text(kubeconfig_text or control_plane.kubeconfig())
    given.write_text(json.dumps({"sources": dict(sources or {}), **(settings or {})}))
    port = free_port()
    words = [sys.executable, "-m", "stillhouse.entrypoints.operator", "--host=127.0.0.1", f"--port={port}"]
    words += [f"--namespace={namespace}", f"--lease-namespace={lease_namespace}", f"--identity={identity}"]
    words += [f"--settings={given}", "--context=test"]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with log.open("ab") as stream:
        process = subprocess.Popen(words, env=environment, stdout=stream, stderr=stream)
    operator = Operator(process, log, port, identity)
    try:
        deadline = time.monotonic() + _START_S
        while operator.ask("/readyz")[0] != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the operator is not ready: {log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield operator
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
