"""The gate's pod as two processes: the worker, and the server that serves its candidates over the socket between them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.cli import Project
from tests.triton.test_worker import Pod

from stillhouse.api.serve import Serve
from stillhouse.entrypoints.serving.exchange import Channel, Wanted
from stillhouse.entrypoints.worker.sidecar import Sidecar
from stillhouse.errors import ServerError, StoreError
from stillhouse.passes.base import Artifact
from stillhouse.planning.request import serve_config
from stillhouse.resources.jobs import PERMANENT

SERVER = {"image": "serve:test", "cpus": 1.0}


@pytest.fixture
def exchange() -> Iterator[Path]:
    """A short path: a socket's has at most 107 characters."""
    with tempfile.TemporaryDirectory(prefix="sh-") as folder:
        yield Path(folder) / "server.sock"


@contextmanager
def server(path: Path, store: Path, work: Path) -> Iterator[subprocess.Popen[str]]:
    work.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "stillhouse.entrypoints.serving", "candidates"]
    words += [f"--socket={path}", f"--store={store}", f"--work={work}"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the servers that run; one that has ended and is not collected yet is none."""
    found = [each for each in psutil.Process(process.pid).children(recursive=True) if each.name().startswith("tritonserver")]
    return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Pod:
    """A pod's store in which everything but the gate is there."""
    folder = tmp_path_factory.mktemp("built")
    pod = Pod(folder / "pod", Project(folder / "project", folder / "none", folder / "cache").create())
    pod.more = {"STILLHOUSE_SERVER": json.dumps(SERVER)}
    for stage in ("resolve", "compress"):
        code, _, log = pod.run(stage)
        assert code == 0, log
    return pod


def candidate(pod: Pod) -> Artifact:
    """A candidate of the store."""
    receipts = [pod.store.receipt(key) for key in pod.store.receipt_keys()]
    found = next(each for each in receipts if each is not None and each.step == "compress/int8")
    return Artifact(found.artifact, found.kind, pod.store.objects.path(found.artifact), found.size)


CONFIG: dict[str, Any] = {"runtime": "triton-ort-cpu", "serve": serve_config(Serve())}


def test_a_gate_measures_through_the_server_beside_it(built: Pod, exchange: Path, tmp_path: Path) -> None:
    with server(exchange, built.store.root, tmp_path / "server") as process:
        code, told, log = built.run("gate", f"--server={exchange}")
        assert code == 0, log
        psutil.wait_procs(children(process), timeout=30)
        assert not children(process), "the server of a candidate ends with its measuring"
    record = told["record"]
    assert (told["next"], record["precision"]) == (None, "int8")
    gate = next(
        receipt
        for receipt in map(built.store.receipt, built.store.receipt_keys())
        if receipt is not None and receipt.step == "gate/gate"
    )
    assert gate.facts["server"]["cpuModel"], "what served is on record, beside what measured"
    assert {"latencyP99", "mrr@10"} & gate.facts["candidates"][0]["figures"].keys()
    code, again, log = built.run("resolve")
    assert (code, again["next"]) == (0, None), log
    assert again["record"]["digest"] == record["digest"], "the first stage of another build knows what served, and believes it"


def test_without_its_server_a_gate_is_tried_again_and_not_refused(built: Pod, exchange: Path, tmp_path: Path) -> None:
    with (
        server(exchange, built.store.root, tmp_path / "server") as process,
        pytest.raises(ServerError, match="ended") as ended,
        Sidecar(exchange, 1.0).serving(candidate(built), "int8", CONFIG, tmp_path),
    ):
        process.kill()
        process.wait()
        raise ServerError("a request failed")
    assert ended.value.exit_code not in PERMANENT


def test_a_server_that_dies_says_so_with_its_last_words(built: Pod, exchange: Path, tmp_path: Path) -> None:
    with server(exchange, built.store.root, tmp_path / "server") as process:
        sidecar = Sidecar(exchange, 1.0)
        with pytest.raises(ServerError) as died, sidecar.serving(candidate(built), "int8", CONFIG, tmp_path) as served:
            (triton,) = children(process)
            triton.kill()
            with served.connect() as client:
                client.infer_texts("candidate", ["a"])
        assert "killed by signal SIGKILL" in str(died.value)
        with sidecar.serving(candidate(built), "int8", CONFIG, tmp_path) as served, served.connect() as client:
            assert client.infer_texts("candidate", ["a b"]).embeddings is not None, "the next candidate has a server of its own"


def test_what_is_not_in_the_store_as_it_was_written_is_not_served(built: Pod, exchange: Path, tmp_path: Path) -> None:
    stranger = Artifact("sha256:" + "0" * 64, "onnx-model", tmp_path, 1)
    with (
        server(exchange, built.store.root, tmp_path / "server"),
        pytest.raises(StoreError, match="cannot be served"),
        Sidecar(exchange, 1.0).serving(stranger, "int8", CONFIG, tmp_path),
    ):
        pass


@pytest.mark.parametrize("said", [b"", b"\n", b"[]\n", b'{"digest": 1}\n', b"x" * (70 << 10)])
def test_what_nobody_understands_ends_a_connection_and_no_server(built: Pod, exchange: Path, tmp_path: Path, said: bytes) -> None:
    with server(exchange, built.store.root, tmp_path / "server") as process:
        with Sidecar(exchange, 1.0).serving(candidate(built), "int8", CONFIG, tmp_path):
            pass
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(exchange))
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(10) == b""
        assert process.poll() is None
        assert os.stat(exchange).st_mode & 0o077 == 0, "nobody else's to ask"


def test_a_worker_that_is_killed_leaves_no_server(built: Pod, exchange: Path, tmp_path: Path) -> None:
    with server(exchange, built.store.root, tmp_path / "server") as process:
        with Sidecar(exchange, 1.0).serving(candidate(built), "int8", CONFIG, tmp_path):
            pass
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(exchange))
        channel = Channel(connection)
        channel.say(Wanted(candidate(built).digest, "int8", CONFIG["runtime"], CONFIG["serve"]))
        channel.answer().raise_error()
        triton = children(process)
        assert triton
        connection.close()  # what the kernel does for a process that is killed
        psutil.wait_procs(triton, timeout=30)
        assert not children(process)
