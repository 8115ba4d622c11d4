"""The operator as a process, against a control plane of the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client
from tests.support.kube.control_plane import ControlPlane
from tests.support.kube.process import free_port
from tests.support.processes import ask, end

from stillhouse.api.crd import crd, revision_crd

__all__ = ["Kept", "Operator", "install_crds", "kept_operator", "running_operator"]

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
        return ask(self.port, path)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = [line for line in self.ask("/metrics")[1].splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 30.0) -> int:
        """Send a signal and wait; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def records(self) -> list[dict[str, Any]]:
        """Return its log, one object a line. A line that is no record (a traceback, a warning of Python's) is a fault."""
        found = []
        for line in self.log.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                raise AssertionError(f"the log has a line that is not JSON: {line[:300]}") from None
            assert {"time", "level", "message"} <= record.keys(), f"a record lacks something: {line[:300]}"
            found.append(record)
        return found


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
                    if error.status not in (404, 429) or time.monotonic() > deadline:
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
    words: Sequence[str] = (),
) -> Iterator[Operator]:
    """Start an operator, yield it once it has listed the cluster, end it. Without a kubeconfig it is the administrator.

    `words` are further options.
    """
    words = [*words, f"--namespace={namespace}", f"--lease-namespace={lease_namespace}", f"--identity={identity}"]
    operator = _start(
        folder,
        words,
        {"sources": dict(sources or {}), **(settings or {})},
        identity,
        kubeconfig_text or control_plane.kubeconfig(),
    )
    process = operator.process
    try:
        deadline = time.monotonic() + _START_S
        while operator.ask("/readyz")[0] != 200:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the operator is not ready: {operator.log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield operator
    finally:
        end(process)


class Kept:
    """An operator that is started anew, under the same name, whenever it has ended: what a kubelet does."""

    def __init__(self, start: Callable[[], Operator]) -> None:
        self._start = start
        self._leave = threading.Event()
        self.codes: list[int] = []
        """How it ended, each time; a negative number is a signal's."""
        self.operator = start()
        self._thread = threading.Thread(target=self._keep, name="kept-operator")
        self._thread.start()

    def _keep(self) -> None:
        while True:
            code = self.operator.process.wait()
            if self._leave.is_set():
                return
            self.codes.append(code)
            self.operator = self._start()

    def kill(self) -> None:
        """End it at once, and return when it is dead; it comes back."""
        process = self.operator.process
        process.kill()
        process.wait(30)

    def close(self) -> None:
        """End it for good."""
        self._leave.set()
        end(self.operator.process)
        self._thread.join(30)
        end(self.operator.process)  # where it was just being started


@contextmanager
def kept_operator(folder: Path, kubeconfig_text: str, sources: Mapping[str, str], words: Sequence[str] = ()) -> Iterator[Kept]:
    """Keep an operator of the whole cluster alive, whatever happens to it. `words` are further options."""
    kept = Kept(
        lambda: _start(
            folder, ["--lease-namespace=default", "--identity=kept", *words], {"sources": dict(sources)}, "kept", kubeconfig_text
        )
    )
    try:
        yield kept
    finally:
        kept.close()


def _start(folder: Path, words: Sequence[str], settings: Mapping[str, Any], identity: str, kubeconfig_text: str) -> Operator:
    folder.mkdir(parents=True, exist_ok=True)
    kubeconfig, given, log = folder / "kubeconfig", folder / "settings.json", folder / f"{identity}.log"
    kubeconfig.write_text(kubeconfig_text)
    given.write_text(json.dumps(settings))
    port = free_port()
    command = [sys.executable, "-m", "stillhouse.entrypoints.operator", "--host=127.0.0.1", f"--port={port}"]
    command += [f"--settings={given}", "--context=test", *words]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    with log.open("ab") as stream:
        return Operator(subprocess.Popen(command, env=environment, stdout=stream, stderr=stream), log, port, identity)
