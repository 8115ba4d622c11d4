"""`still` with a cluster: status, waiting with exit codes, rollback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes import client
from tests.support.cluster import DIGEST, SOURCES, model, record
from tests.support.hands import Hands, eventually
from tests.support.kube.control_plane import ControlPlane
from tests.support.operator_process import install_crds, running_operator

OTHER = "sha256:" + "c" * 64
MADE_OF = {
    "sources": [{"name": "calibration", "uri": "data:some", "digest": "sha256:" + "d" * 64}],
    "toolchain": [{"name": "torch", "value": "2.9.1"}],
}
Still = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hands(control_plane: ControlPlane, api_client: client.ApiClient, namespace: str, tmp_path: Path) -> Iterator[Hands]:
    install_crds(control_plane)
    with running_operator(control_plane, tmp_path, namespace=namespace, lease_namespace=namespace, sources=SOURCES):
        yield Hands(api_client, namespace)


@pytest.fixture
def still(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Still:
    kubeconfig = tmp_path / "user.kubeconfig"
    kubeconfig.write_text(control_plane.kubeconfig())

    def run(*words: str, context: str = "test") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "stillhouse.entrypoints.cli", words[0], "--context", context, "-n", namespace, *words[1:]]
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "NO_PROXY": "127.0.0.1",
            "STILLHOUSE_HOME": str(tmp_path / "home"),
        }
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=120)

    return run


def test_status_waiting_and_rollback(hands: Hands, still: Still) -> None:
    assert "No models in namespace" in still("status").stdout
    hands.apply(model())
    ended = still("status", "m", "--timeout", "1s")
    assert ended.returncode == 5
    assert "not ready after 1 s" in ended.stderr
    assert "Building" in ended.stderr
    hands.build()
    hands.roll()
    done = still("status", "m", "--timeout", "60s")
    assert done.returncode == 0, done.stderr
    assert "Ready=True" in done.stdout
    assert DIGEST[7:19] in done.stdout

    hands.apply(model(compress={"precision": "fp32"}))
    hands.end("resolve", {"next": None, "planHash": "b" * 64, "record": record(OTHER, lineage=MADE_OF)})
    eventually(lambda: hands.get()["status"]["revision"]["digest"] == OTHER)
    hands.roll()
    shown = still("status", "m", "--timeout", "60s")
    assert shown.returncode == 0
    assert "plan bbbbbbbbbbbb" in shown.stdout
    assert "calibration  dddddddddddd  data:some" in shown.stdout
    assert "toolchain    torch 2.9.1" in shown.stdout
    assert json.loads(still("status", "m", "-o", "json").stdout)[0]["revision"]["lineage"] == MADE_OF
    back = still("rollback", "m", "-o", "json")
    assert json.loads(back.stdout) == {"name": "m", "pin": DIGEST}, back.stderr
    eventually(lambda: hands.get()["status"]["revision"]["digest"] == DIGEST)
    hands.roll()
    waiting = still("status", "m", "--timeout", "60s")
    assert waiting.returncode == 0, "who went back can wait for it"
    assert "Ready=True" in waiting.stdout
    assert "pinned" in still("status", "m").stdout
    assert json.loads(still("rollback", "m", "--undo", "-o", "json").stdout)["pin"] == ""
    eventually(lambda: hands.get()["status"]["revision"]["digest"] == OTHER)
    assert json.loads(still("rollback", "m", "--to", DIGEST[7:15], "-o", "json").stdout)["pin"] == DIGEST
    wrong = still("rollback", "m", "--to", "ffff")
    assert wrong.returncode == 2
    assert DIGEST[7:19] in wrong.stderr

    hands.apply(model(compress={"precision": "int8"}))
    hands.end("resolve", {"next": None, "message": "too slow"})  # a record that cannot be read
    failed = still("status", "m", "--timeout", "60s")
    assert failed.returncode == 2
    assert "same version" in failed.stderr


def test_waiting_ends_with_the_gates_exit_code(hands: Hands, still: Still) -> None:
    for code, precision, said in (
        (3, "int8", "mrr@10 0.61, at least 0.70 wanted"),
        (4, "fp32", "mrr@10 [0.60, 0.80]: too noisy"),
    ):
        hands.apply(model(compress={"precision": precision}))
        hands.end("resolve", {"next": "gate"})
        hands.end("gate", {"message": said, "record": {"candidates": []}}, code=code)
        ended = still("status", "m", "--timeout", "60s")
        assert ended.returncode == code, ended.stderr
        assert said in ended.stderr


def test_doctor_names_what_is_missing_with_its_fix(hands: Hands, still: Still, namespace: str) -> None:
    hands.apply(model())
    eventually(lambda: "resolve" in hands.jobs())
    done = still("doctor", "--cluster", "--operator-namespace", namespace, "-o", "json")
    assert done.returncode == 5
    found = {finding["title"]: finding for finding in json.loads(done.stdout)}
    assert found["Kubernetes"]["state"] == "ok"
    assert found["distilledmodels.stillhouse.io"] == {
        "state": "ok", "title": "distilledmodels.stillhouse.io", "detail": "installed", "fix": "",
    }  # fmt: skip
    assert (found["operator"]["state"], found["operator"]["detail"]) == ("ok", "one leads")
    assert found["your rights"]["state"] == "ok", "an administrator may everything"
    assert found["store"]["state"] == "failed"
    assert "PersistentVolumeClaim stillhouse-models" in found["store"]["fix"]
    assert found["metrics API"]["state"] == "warning"
    assert (found["external metrics"]["state"], found["external metrics"]["detail"]) == (
        "warning",
        "not registered: models of mode hpa scale by CPU",
    )
    assert found["m"]["fix"] == "spec.scale.minReplicas: 2"
    claim = {
        "metadata": {"name": "stillhouse-models"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    hands.core.create_namespaced_persistent_volume_claim(namespace, claim)
    part = {"name": "operator", "image": "registry.internal/op:1", "args": ["--lease-name=stillhouse-operator"]}
    release = {"app.kubernetes.io/component": "operator", "app.kubernetes.io/version": "1"}
    pod = {"metadata": {"labels": release}, "spec": {"containers": [part], "serviceAccountName": "nobody"}}
    spec = {"replicas": 2, "selector": {"matchLabels": release}, "template": pod}
    hands.apps.create_namespaced_deployment(namespace, {"metadata": {"name": "any-operator", "labels": release}, "spec": spec})
    told = json.loads(still("doctor", "--cluster", "--operator-namespace", namespace, "-o", "json").stdout)
    (rights,) = [each for each in told if each["title"] == "operator's rights"]
    assert rights["state"] == "failed"
    assert "nobody may not, in every namespace: list distilledmodels.stillhouse.io" in rights["detail"]
    assert "1 (registry.internal/op:1)" in next(each["detail"] for each in told if each["title"] == "operator's version")
    text = still("doctor", "--cluster", "--operator-namespace", "nowhere").stdout
    assert "ReadWriteOnce: pods on a second node cannot mount it" in text
    assert "no operator has ever led in namespace nowhere" in text
    assert "helm install" in text


def test_mistakes(hands: Hands, still: Still, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "any.yaml").write_text("{}")
    nowhere = still("push", str(tmp_path / "any.yaml"), "--to", "pvc://none")
    assert nowhere.returncode == 2
    assert f"kubectl create -f - -n {namespace} --context test" in nowhere.stderr
    nowhere = still("push", str(tmp_path / "any.yaml"), "--to", "pvc://none", "-n", "missing")
    assert "kubectl create namespace missing --context test" in nowhere.stderr
    gone = still("status", "none")
    assert gone.returncode == 2
    assert "no such model in the cluster" in gone.stderr
    strange = still("status", "m", context="none")
    assert strange.returncode == 2
    assert "--context test" in strange.stderr
    assert still("status", "m", "--timeout", "soon").returncode == 2
    hands.apply(model())
    assert "no revision to go back to" in still("rollback", "m").stderr


def test_watching_shows_what_changes_until_ctrl_c(
    hands: Hands, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "user.kubeconfig"
    kubeconfig.write_text(control_plane.kubeconfig())
    line = [sys.executable, "-m", "stillhouse.entrypoints.cli", "status", "m", "--watch", "--context", "test", "-n", namespace]
    shown = tmp_path / "shown"
    hands.apply(model())
    eventually(lambda: "resolve" in hands.jobs())
    with shown.open("w") as stream:
        process = subprocess.Popen(
            line, env={**os.environ, "KUBECONFIG": str(kubeconfig), "NO_PROXY": "127.0.0.1"}, stdout=stream, stderr=stream
        )
    try:
        eventually(lambda: "Building" in shown.read_text())
        assert DIGEST[7:19] not in shown.read_text()
        hands.build()
        eventually(lambda: DIGEST[7:19] in shown.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "interrupted" not in shown.read_text(), "a watch has begun nothing that could be gone on with"
    finally:
        process.kill()
        process.wait(10)
