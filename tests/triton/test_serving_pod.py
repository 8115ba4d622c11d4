"""What runs in a serving pod, as a process: verified, ready only when it answers, gone without a lost request."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton
from tests.support.cli import NAME, Project
from tests.support.kube.process import free_port
from tritonclient.utils import InferenceServerException

from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.triton import TritonClient
from stillhouse.errors import StillhouseError
from stillhouse.scaling.counters import Sample, read

HOST = "127.0.0.3"
"""The pod's address, which is not where what only the pod itself may reach listens."""


@dataclass(frozen=True)
class Running:
    process: subprocess.Popen[str]
    grpc: int
    health: int
    metrics: int

    def ask(self, path: str, port: int = 0) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{HOST}:{port or self.health}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 120
        while self.ask("/ready")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"not ready: {self.process.communicate(timeout=10)[0]}")
            time.sleep(0.1)


def counted(running: Running) -> Sample:
    status, text = running.ask("/metrics", running.metrics)
    assert status == 200, text
    return read(text, NAME, time.monotonic())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A store with one revision: (its folder, digest, precision)."""
    folder = tmp_path_factory.mktemp("built")
    project = Project(folder / "project", folder / "store", folder / "cache").create()
    words = [sys.executable, "-m", "stillhouse.entrypoints.cli", "build", "-o", "json", str(project.file)]
    environment = {**os.environ, "STILLHOUSE_HOME": str(project.home), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=240)
    revision = json.loads(done.stdout)
    return project.home, revision["digest"], revision["precision"]


@contextmanager
def pod(store: Path, digest: str, work: Path) -> Iterator[Running]:
    work.mkdir(parents=True, exist_ok=True)
    grpc, health, metrics = free_port(), free_port(), free_port()
    words = [sys.executable, "-m", "stillhouse.entrypoints.serving", "serve", f"--model={NAME}", f"--digest={digest}"]
    words += [f"--store={store}", f"--work={work}", f"--host={HOST}", "--precision=int8"]
    words += [f"--grpc-port={grpc}", f"--health-port={health}", f"--metrics-port={metrics}"]
    environment = {**os.environ, "STILLHOUSE_SERVE": json.dumps({"cpus": 1.0, "maxBatchSize": 8})}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield Running(process, grpc, health, metrics)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def test_it_is_ready_when_it_answers_and_loses_nothing_at_its_end(built: tuple[Path, str, str], tmp_path: Path) -> None:
    store, digest, _ = built
    with pod(store, digest, tmp_path / "work") as running:
        running.wait_ready()
        assert running.ask("/live") == (200, "ok")
        assert running.ask("/else")[0] == 404
        before = counted(running)
        assert before.cpu_s and before.cpu_s > 0.1, "Triton's start took CPU time"
        answers, failures, stop = [], [], threading.Event()

        def load() -> None:
            with TritonClient(f"{HOST}:{running.grpc}", timeout_s=20.0, retries=0) as client:
                while not stop.is_set():
                    try:
                        answers.append(client.infer_texts(NAME, ["a b c"]).embeddings)
                    except StillhouseError as error:
                        failures.append(error)
                        return

        with TritonClient(f"{HOST}:{running.grpc}", timeout_s=20.0) as client:
            assert client.parameters(NAME)["stillhouse.digest"] == digest
        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        after = counted(running)
        assert after.ended > before.ended
        assert after.cpu_s and after.cpu_s - before.cpu_s > 0.1, "three clients keep it busy for a second"
        stop.set()  # clients have left by the time that the kubelet sends SIGTERM: that is what preStop is for
        for thread in threads:
            thread.join(30)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
        assert answers
        assert not failures
        assert running.ask("/ready")[0] == 0


def test_whoever_reaches_the_pod_can_ask_it_and_nothing_else(built: tuple[Path, str, str], tmp_path: Path) -> None:
    store, digest, _ = built
    with pod(store, digest, tmp_path / "work") as running:
        running.wait_ready()
        with triton.InferenceServerClient(f"{HOST}:{running.grpc}") as client:
            assert client.is_model_ready(NAME)
            assert client.get_inference_statistics(NAME).model_stats
            locked: list[Callable[[], object]] = [
                client.get_model_repository_index,
                lambda: client.load_model(NAME),
                lambda: client.unload_model(NAME),
                client.get_trace_settings,
                lambda: client.update_trace_settings(NAME, {"trace_level": ["TIMESTAMPS"], "trace_file": "/tmp/x"}),
                client.get_log_settings,
                lambda: client.update_log_settings({"log_file": "/tmp/x"}),
                client.get_system_shared_memory_status,
                lambda: client.register_system_shared_memory("x", "/x", 16),
                client.get_cuda_shared_memory_status,
            ]
            for ask in locked:
                with pytest.raises(InferenceServerException, match="restricted"):
                    ask()
        # Triton's own HTTP is off: the port of the probes knows two paths, that of the metrics one; Triton's metrics, which have
        # an HTTP server of their own, are at loopback.
        for path in ("/v2", "/v2/repository/index", f"/v2/models/{NAME}/infer", "/v2/logging", "/v2/systemsharedmemory/status"):
            assert running.ask(path)[0] == 404
            assert running.ask(path, running.metrics)[0] == 404
        tree = (psutil.Process(running.process.pid), *psutil.Process(running.process.pid).children(recursive=True))
        sockets = [each for process in tree for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
        listening = {each.laddr.port: each.laddr.ip for each in sockets}
        assert set(listening) >= {running.grpc, running.health, running.metrics}
        others = {port: ip for port, ip in listening.items() if port not in (running.grpc, running.health, running.metrics)}
        assert set(others.values()) == {"127.0.0.1"}, others  # Triton's metrics among them


def test_a_damaged_artifact_is_not_served(built: tuple[Path, str, str], tmp_path: Path) -> None:
    store, digest, _ = built
    shutil.copytree(store, tmp_path / "store")
    model = LocalStore(tmp_path / "store").objects.path(digest) / "model.onnx"
    model.chmod(0o644)
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pod(tmp_path / "store", digest, tmp_path / "work") as running:
        assert running.process.wait(60) == 5
        log = running.process.communicate(timeout=10)[0]
        assert "the artifact cannot be served" in log
        assert "stillhouse.io/rebuild" in log
        assert "Traceback" not in log


def test_a_backend_that_dies_ends_the_pod(built: tuple[Path, str, str], tmp_path: Path) -> None:
    """Triton 2.51 would go on saying that it is ready."""
    store, digest, _ = built
    with pod(store, digest, tmp_path / "work") as running:
        running.wait_ready()
        stub = next(each for each in psutil.Process(running.process.pid).children(recursive=True) if "stub" in each.name())
        stub.kill()
        assert running.process.wait(60) == 5
        assert "backend processes" in running.process.communicate(timeout=10)[0]
