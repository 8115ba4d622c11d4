"""A whole model through the operator: its Jobs' and its Deployment's containers are started as the kubelet would, as processes.

What is not here is the container: the image, the mounts, the limits. Everything that is said in the pod templates is taken from
them: arguments, environment, ports.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from tests.support.cli import Project
from tests.support.hands import Hands, eventually
from tests.support.kube.control_plane import ControlPlane
from tests.support.kube.process import free_port
from tests.support.operator_process import install_crds, running_operator
from tests.support.source_servers import Store, running_store

from stillhouse.clients.triton import TritonClient
from stillhouse.resources.jobs import EXCHANGE
from stillhouse.resources.labels import CREDENTIALS
from stillhouse.resources.pods import CLAIMS
from stillhouse.resources.wanted import ClusterSettings

CLAIM = ClusterSettings().store_claim
MODULES = {"worker": "stillhouse.entrypoints.worker", "triton": "stillhouse.entrypoints.serving"}


def started(container: Any, folder: Path, more: tuple[str, ...] = (), exchange: str = "") -> subprocess.Popen[str]:
    """Start a container's command with its claims below `folder`, and `exchange` where worker and server speak."""
    work = folder / f"work-{time.monotonic_ns()}"
    work.mkdir(parents=True)
    arguments = [argument.replace(CLAIMS, str(folder / "claims")).replace(EXCHANGE, exchange) for argument in container.args]
    environment = {**os.environ, **{each.name: each.value for each in container.env}}
    for mount in container.volume_mounts:
        if mount.name.startswith("credential-"):
            given = json.loads(environment["STILLHOUSE_CREDENTIALS"])
            files = {each["path"]: str(folder / "secrets" / each["secret"]) for each in given}
            environment["STILLHOUSE_CREDENTIALS"] = json.dumps([{**each, "path": files[each["path"]]} for each in given])
    words = [sys.executable, "-m", MODULES[container.name], *arguments, f"--work={work}", *more]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_job(hands: Hands, stage: str, folder: Path) -> str:
    """Let the containers of a stage's Job run, and say what the kubelet and the Job's controller would; return the next stage."""
    job = eventually(lambda: hands.jobs().get(stage))
    pod = job.spec.template.spec
    (container,) = pod.containers
    message = folder / f"message-{stage}"
    with tempfile.TemporaryDirectory(prefix="sh-") as exchange:  # a socket's path has at most 107 characters
        beside = [started(each, folder, exchange=exchange) for each in pod.init_containers or []]
        process = started(
            container,
            folder,
            (f"--claims={folder / 'claims'}", f"--message={message}", f"--progress-port={free_port()}", "--host=127.0.0.1"),
            exchange,
        )
        log, _ = process.communicate(timeout=240)
        for each in beside:
            each.send_signal(signal.SIGTERM)
            log += each.communicate(timeout=60)[0]
    assert process.returncode == 0, log
    told = json.loads(message.read_bytes())
    hands.end(stage, told)
    return str(told["next"] or "")


def put(store: Store, prefix: str, file: Path) -> None:
    """Put a file into the bucket `models`."""
    folder = store.root / "models" / prefix
    folder.mkdir(parents=True)
    shutil.copy(file, folder)


def a_secret(hands: Hands, folder: Path, name: str, **values: str) -> None:
    """Make a Secret that models may use, and its files as the kubelet would."""
    (folder / "secrets" / name).mkdir(parents=True)
    for key, value in values.items():
        (folder / "secrets" / name / key).write_text(value)
    metadata = {"name": name, "labels": {CREDENTIALS: "true"}}
    hands.core.create_namespaced_secret(hands.namespace, {"metadata": metadata, "stringData": values})


@pytest.mark.timeout(600)
def test_a_model_is_built_served_and_answers(
    control_plane: ControlPlane, api_client: client.ApiClient, namespace: str, tmp_path: Path
) -> None:
    install_crds(control_plane)
    project = Project(tmp_path / "project", tmp_path / "none", tmp_path / "cache").create()
    shutil.copytree(project.folder, tmp_path / "claims" / CLAIM / "sources")
    body = yaml.safe_load(project.file.read_text())
    named = yaml.safe_load((project.folder / "stillhouse.yaml").read_text())["sources"]
    uris = {"models:tiny": named["models:tiny"]}
    for place in ("gate", "index"):
        uri = body["spec"][place]["data"]["uri"]
        body["spec"][place]["data"]["uri"] = f"data:{place}"
        uris[f"data:{place}"] = uri
    sources = {name: f"pvc://{CLAIM}/sources/{uri.removeprefix('file://')}" for name, uri in uris.items()}
    index = project.folder / uris["data:index"].removeprefix("file://")
    sources["data:index"] = f"s3://models/data/{index.name}"
    body["spec"]["credentials"] = [{"secret": "keys", "for": "s3://models/data"}]
    name = body["metadata"]["name"]
    hands = Hands(api_client, namespace)
    with running_operator(
        control_plane,
        tmp_path / "operator",
        namespace=namespace,
        lease_namespace=namespace,
        sources=sources,
        settings={"source_hosts": ["http://127.0.0.1"]},
    ):
        hands.apply(body)
        with running_store(tmp_path / "store", "integration") as store:
            put(store, "data", index)
            a_secret(hands, tmp_path, "keys", accessKeyId=store.key, secretAccessKey=store.secret, endpoint=store.endpoint)
            stage, seen = run_job(hands, "resolve", tmp_path), ["resolve"]
        while stage:  # the store is gone: the first stage alone fetches
            seen.append(stage)
            stage = run_job(hands, stage, tmp_path)
        assert seen == ["resolve", "compress", "gate"]
        deployment = eventually(lambda: hands.apps.read_namespaced_deployment(f"{name}-main", namespace))
        (container,) = deployment.spec.template.spec.containers
        grpc, health = free_port(), free_port()
        ports = (f"--grpc-port={grpc}", f"--health-port={health}", f"--metrics-port={free_port()}", "--host=127.0.0.1")
        process = started(container, tmp_path, ports)
        try:
            with TritonClient(f"127.0.0.1:{grpc}", timeout_s=5.0, retries=0) as asked:
                deadline = time.monotonic() + 120
                while not asked.ready(name):
                    if process.poll() is not None or time.monotonic() > deadline:
                        pytest.fail(process.communicate(timeout=10)[0])
                    time.sleep(0.1)
                revision = eventually(lambda: hands.get(name)["status"].get("revision"))
                assert asked.parameters(name)["stillhouse.digest"] == revision["digest"]
                assert asked.infer_texts(name, ["a b c"]).embeddings is not None
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        hands.roll(f"{name}-main")
        eventually(lambda: hands.condition("Ready", name) == ("True", "Serving"))
        status = hands.get(name)["status"]
        assert status["variants"][0]["metrics"][0] == {"name": "gate", "value": "passed"}
        assert {"mrr@10", "latencyP99"} & {each["name"].partition(" ")[0] for each in status["revision"]["metrics"]}
        # The same again, under another name of the build: everything is in the store, so the first stage ends it.
        live = hands.get(name)
        live["metadata"]["annotations"] = {"note": "x"}
        credentials = [{"secret": "others", "for": "s3://models"}]
        live["spec"]["serve"] = {**live["spec"]["serve"], "batching": {"maxBatchSize": 16, "maxQueueDelay": "0ms"}}
        hands.apply({**body, "spec": {**live["spec"], "credentials": credentials}})
        with running_store(tmp_path / "another", "integration") as store:
            put(store, "data", index)
            a_secret(hands, tmp_path, "others", accessKeyId=store.key, secretAccessKey=store.secret, endpoint=store.endpoint)
            assert run_job(hands, "resolve", tmp_path) == "gate", "another batch size is measured anew, and nothing else"
